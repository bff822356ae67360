#include "sqlite.hpp"

#include <fmt/format.h>

#include <chrono>
#include <thread>

namespace sqlite {

database_error::database_error(sqlite3* connection, std::string_view doing)
    : std::runtime_error{fmt::format("SQLite: {}: {}", doing,
                                     connection != nullptr ? sqlite3_errmsg(connection) : "out of memory")},
      code_{connection != nullptr ? sqlite3_errcode(connection) : SQLITE_NOMEM} {}

connection::connection(const std::string& what, int flags) {
  sqlite3* opened = nullptr;
  const int result = sqlite3_open_v2(what.c_str(), &opened,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | flags, nullptr);
  handle_.reset(opened);
  if (result != SQLITE_OK) throw database_error{opened, "opening " + what + " (3.36 or later is needed)"};
  sqlite3_busy_timeout(opened, 10'000);
}

connection connection::in_memory(std::string_view name) {
  // The VFS "memdb" shares a database by a name that begins with a slash. Unlike shared-cache mode it gives every
  // connection a page cache of its own, so readers do not wait for each other; and there is no file to clean up.
  return {fmt::format("file:/{}?vfs=memdb", name), SQLITE_OPEN_URI};
}

connection connection::file(const std::string& path) {
  connection opened{path, 0};
  // SQLite does not wait for those who turn the log on at the same moment.
  const auto give_up_at = std::chrono::steady_clock::now() + std::chrono::seconds{10};
  for (;;) {
    try {
      opened.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
      return opened;
    } catch (const database_error& busy) {
      if (busy.code() != SQLITE_BUSY || std::chrono::steady_clock::now() >= give_up_at) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
  }
}

void connection::execute(const std::string& sql) const {
  if (sqlite3_exec(handle(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) throw database_error{handle(), sql};
}

bool rows::next() {
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  throw database_error{sqlite3_db_handle(statement_), sqlite3_sql(statement_)};
}

std::string rows::text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
  return bytes == nullptr ? std::string{} : std::string{static_cast<const char*>(bytes), size};
}

statement::statement(const connection& on, std::string_view sql) {
  sqlite3_stmt* prepared = nullptr;
  const int result = sqlite3_prepare_v3(on.handle(), sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &prepared, nullptr);
  if (result != SQLITE_OK) throw database_error{on.handle(), sql};
  handle_.reset(prepared);
}

void statement::bind(int position, std::int64_t value) { sqlite3_bind_int64(handle_.get(), position, value); }

void statement::bind(int position, std::string_view text) {
  sqlite3_bind_text64(handle_.get(), position, text.data(), text.size(), nullptr, SQLITE_UTF8);  // nullptr: not copied
}

void statement::bind(int position, const std::optional<std::int64_t>& value) {
  if (value) return bind(position, *value);
  sqlite3_bind_null(handle_.get(), position);
}

}  // namespace sqlite
