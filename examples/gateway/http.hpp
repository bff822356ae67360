#pragma once
// An HTTP/1.1 server on one thread: connections, limits and time-outs. It knows nothing of what is served.

#include <tenantry/task.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace gateway {

using headers = std::vector<std::pair<std::string, std::string>>;

struct request {
  std::string method;
  std::string path;                   // without the query, as it came
  std::string query;                  // without the question mark
  std::vector<std::string> segments;  // of the path, decoded one by one: %2F separates nothing
  headers fields;
  std::string body;

  /// Empty where there is none. Names in any case.
  [[nodiscard]] std::string_view field(std::string_view name) const noexcept;
  /// The value of a parameter of the query, decoded; empty where there is none.
  [[nodiscard]] std::string parameter(std::string_view name) const;
};

struct response {
  unsigned status = 200;
  std::string type = "application/json";
  std::string body;
  headers fields = {};
};

/// Where the bytes of an endless response go.
class byte_sink {
 public:
  virtual ~byte_sink() = default;
  /// False when the client is gone, or does not read for too long.
  virtual boost::asio::awaitable<bool> write(std::string bytes) = 0;
  /// Triggered when the client is gone, also while nothing is written, and when the server stops.
  [[nodiscard]] virtual std::stop_token gone() const = 0;
};

/// An endless response, which ends when the function returns. It runs on the server's thread.
struct stream {
  headers fields;
  std::function<boost::asio::awaitable<void>(byte_sink&)> run;
};

using answer = std::variant<response, stream>;
/// Runs where its task takes it.
using handler = std::function<tenantry::task<answer>(request)>;

struct server_options {
  std::string address = "127.0.0.1";
  std::uint16_t port = 8080;  // several processes may listen on the same one, and share its connections
  std::size_t max_body = 64U << 10U;
  std::size_t max_connections = 4096;    // one more is closed at once
  std::chrono::seconds idle{60};         // between two requests of a connection
  std::chrono::seconds write_within{5};  // what is written at a time
  headers fields = {};                   // of every response
};

/// Threads:  only its io_context's, which has to be one.
/// Lifetime: the io_context must outlive it, and it what the handler's tasks use.
class http_server {
 public:
  /// Listens. Errors: boost::system::system_error, naming the port.
  http_server(boost::asio::io_context& loop, server_options how, handler serve);
  ~http_server();

  [[nodiscard]] std::uint16_t port() const noexcept;
  /// No further connections and requests; streams end.
  void stop();
  /// Closes the connections that are left. What serves them ends while the loop runs.
  void abort();
  /// Requests and streams that have not ended.
  [[nodiscard]] std::size_t busy() const noexcept;
  [[nodiscard]] std::size_t connections() const noexcept;

 private:
  struct shared;
  std::shared_ptr<shared> shared_;
};

}  // namespace gateway
