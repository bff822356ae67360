#pragma once
// As much of SQLite as the examples need: a connection, prepared statements, and errors as exceptions.

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace sqlite {

class database_error : public std::runtime_error {
 public:
  database_error(sqlite3* connection, std::string_view doing);

  /// One of SQLITE_BUSY, SQLITE_FULL, ...
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A connection to a database. Who finds the database locked waits up to 10 s.
/// Threads: one at a time.
class connection {
 public:
  /// A database that lives in this process's memory and ends with its last connection. Connections with the same name
  /// share one.
  static connection in_memory(std::string_view name);
  /// A file, which is made where it is missing, and which other processes may have open as well: its journal is a
  /// write-ahead log, so those who read do not wait for the one who writes. What was committed survives the death of a
  /// process; when the machine loses power, the last commits may be lost, but no half ones are there.
  static connection file(const std::string& path);

  void execute(const std::string& sql) const;
  /// How many rows the last INSERT, UPDATE or DELETE changed.
  [[nodiscard]] int changes() const noexcept { return sqlite3_changes(handle()); }
  [[nodiscard]] sqlite3* handle() const noexcept { return handle_.get(); }

 private:
  connection(const std::string& what, int flags);

  struct closer {
    void operator()(sqlite3* handle) const noexcept { sqlite3_close_v2(handle); }
  };
  std::unique_ptr<sqlite3, closer> handle_;
};

/// The rows of a running statement. When it goes, the statement lets go of its lock on the database.
class rows {
 public:
  explicit rows(sqlite3_stmt* statement) noexcept : statement_{statement} {}
  rows(const rows&) = delete;
  rows& operator=(const rows&) = delete;
  ~rows() { sqlite3_reset(statement_); }

  /// True while there is a next row; the columns are then those of that row.
  [[nodiscard]] bool next();
  [[nodiscard]] std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  [[nodiscard]] double real(int column) const { return sqlite3_column_double(statement_, column); }
  [[nodiscard]] std::string text(int column) const;  ///< empty for NULL

 private:
  sqlite3_stmt* statement_;
};

/// A prepared statement.
class statement {
 public:
  statement(const connection& on, std::string_view sql);

  /// Starts the statement with these values for ?1, ?2, ... A text must outlive the rows.
  template <class... Values>
  [[nodiscard]] rows query(const Values&... values) {
    int position = 0;
    (bind(++position, values), ...);
    return rows{handle_.get()};
  }

  /// Runs a statement that has no rows.
  template <class... Values>
  void run(const Values&... values) {
    while (query(values...).next()) {
    }
  }

 private:
  void bind(int position, std::int64_t value);
  void bind(int position, std::string_view text);
  void bind(int position, const std::optional<std::int64_t>& value);  ///< nothing is NULL

  struct finalizer {
    void operator()(sqlite3_stmt* handle) const noexcept { sqlite3_finalize(handle); }
  };
  std::unique_ptr<sqlite3_stmt, finalizer> handle_;
};

/// What is done until `commit` is done as a whole, or else not at all. It waits for its turn at the beginning, so it
/// does not fail in the middle because others write.
class transaction {
 public:
  explicit transaction(const connection& on) : on_{on} { on_.execute("BEGIN IMMEDIATE"); }
  transaction(const transaction&) = delete;
  transaction& operator=(const transaction&) = delete;
  ~transaction() {
    if (open_) sqlite3_exec(on_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
  }
  void commit() {
    on_.execute("COMMIT");
    open_ = false;
  }

 private:
  const connection& on_;
  bool open_ = true;
};

}  // namespace sqlite
