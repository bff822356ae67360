#include "http.hpp"

#include "awaiting.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <exception>
#include <set>
#include <sys/socket.h>
#include <utility>

namespace gateway {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr auto silently = asio::as_tuple(use_awaitable);
constexpr int kept_by_kernel = 128 << 10;  // bytes that a client has not read; without a bound it is megabytes for each

/// What is no escape stays as it is.
std::string decoded(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr == text.data() + i + 3) {
      plain += static_cast<char>(byte);
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

/// `http://host/path`, which a server has to accept too (RFC 9112, section 3.2.2), is `/path`.
std::string_view without_authority(std::string_view target) {
  constexpr std::string_view scheme = "http://";
  if (!beast::iequals(std::string_view{target.substr(0, scheme.size())}, scheme)) return target;
  const std::size_t end = target.find_first_of("/?", scheme.size());
  return end == std::string_view::npos ? "/" : target.substr(end);
}

/// None where the path does not begin with a slash.
std::vector<std::string> segments_of(std::string_view path) {
  std::vector<std::string> parts;
  while (path.starts_with('/')) {
    path.remove_prefix(1);
    const std::size_t end = std::min(path.size(), path.find('/'));
    parts.push_back(decoded(path.substr(0, end)));
    path.remove_prefix(end);
  }
  return parts;
}

request from(const http::request<http::string_body>& read) {
  const std::string_view target = without_authority({read.target().data(), read.target().size()});
  const std::size_t mark = target.find('?');
  request made{.method = std::string{read.method_string()},
               .path = std::string{target.substr(0, mark)},
               .query = mark == std::string_view::npos ? std::string{} : std::string{target.substr(mark + 1)},
               .segments = segments_of(target.substr(0, mark)),
               .fields = {},
               .body = read.body()};
  for (const auto& each : read) made.fields.emplace_back(std::string{each.name_string()}, std::string{each.value()});
  return made;
}

}  // namespace

std::string_view request::field(std::string_view name) const noexcept {
  for (const auto& [key, value] : fields) {
    if (beast::iequals({key.data(), key.size()}, {name.data(), name.size()})) return value;
  }
  return {};
}

std::string request::parameter(std::string_view name) const {
  std::string_view rest = query;
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    if (pair.substr(0, pair.find('=')) != name || pair.size() <= name.size()) continue;
    std::string value{pair.substr(name.size() + 1)};
    std::ranges::replace(value, '+', ' ');
    return decoded(value);
  }
  return {};
}

struct http_server::shared {
  shared(asio::io_context& on, server_options options, handler serve)
      : loop{on}, how{std::move(options)}, handle{std::move(serve)}, acceptor{on} {}

  asio::io_context& loop;
  const server_options how;
  const handler handle;
  tcp::acceptor acceptor;
  std::stop_source stopped;
  std::size_t busy = 0;
  std::size_t connections = 0;
  std::set<beast::tcp_stream*> open;
};

namespace {

/// Counts while it lives.
class counted {
 public:
  explicit counted(std::size_t& what) noexcept : what_{what} { ++what_; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { --what_; }

 private:
  std::size_t& what_;
};

/// One connection, for as long as it lives.
template <class Shared>
class connected {
 public:
  connected(Shared& server, beast::tcp_stream& which) : server_{server}, which_{which} { server_.open.insert(&which_); }
  connected(const connected&) = delete;
  connected& operator=(const connected&) = delete;
  ~connected() { server_.open.erase(&which_); }

 private:
  Shared& server_;
  beast::tcp_stream& which_;
};

/// One client of an endless response.
class open_stream final : public byte_sink {
 public:
  open_stream(beast::tcp_stream& to, std::chrono::seconds within, const std::stop_token& server)
      : to_{to}, within_{within}, on_stop_{server, ends{gone_}} {}

  awaitable<bool> write(std::string bytes) override {
    to_.expires_after(within_);
    const auto [fault, size] = co_await asio::async_write(to_, asio::buffer(bytes), silently);
    to_.expires_never();
    if (fault) gone_.request_stop();
    co_return !fault;
  }
  [[nodiscard]] std::stop_token gone() const override { return gone_.get_token(); }

  /// Until the client is gone: that ends a read at once, and a write only some time later. The socket is read, not the
  /// stream, whose deadline is the write's.
  awaitable<void> watch() {
    std::array<char, 512> ignored{};
    for (;;) {
      const auto [fault, size] = co_await to_.socket().async_read_some(asio::buffer(ignored), silently);
      if (fault) break;
    }
    gone_.request_stop();
  }

 private:
  struct ends {
    std::stop_source which;
    void operator()() { which.request_stop(); }
  };

  beast::tcp_stream& to_;
  const std::chrono::seconds within_;
  std::stop_source gone_;
  std::stop_callback<ends> on_stop_;
};

template <class Shared>
awaitable<void> send_stream(Shared& server, beast::tcp_stream& to, const stream& what) {
  std::string head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";  // its end is the end of the connection
  for (const auto* all : {&what.fields, &server.how.fields}) {
    for (const auto& [name, value] : *all) head.append(name).append(": ").append(value).append("\r\n");
  }
  head += "\r\n";
  open_stream sink{to, server.how.write_within, server.stopped.get_token()};
  if (!co_await sink.write(std::move(head))) co_return;
  using namespace asio::experimental::awaitable_operators;
  co_await (sink.watch() || what.run(sink));
}

template <class Shared>
awaitable<bool> send(Shared& server, beast::tcp_stream& to, response what,
                     const http::request<http::string_body>* asked) {
  http::response<http::string_body> made{http::status{what.status}, 11};
  made.set(http::field::content_type, what.type);
  for (const auto* all : {&std::as_const(what.fields), &server.how.fields}) {
    for (const auto& [name, value] : *all) made.set(name, value);
  }
  made.keep_alive(asked != nullptr && asked->keep_alive() && !server.stopped.stop_requested());
  if (asked != nullptr && asked->version() < 11 && asked->keep_alive()) made.set(http::field::connection, "keep-alive");
  made.body() = std::move(what.body);
  made.prepare_payload();
  if (asked != nullptr && asked->method() == http::verb::head) made.body().clear();
  to.expires_after(server.how.write_within);
  const auto [fault, size] = co_await http::async_write(to, made, silently);
  co_return !fault && made.keep_alive();
}

response failed(unsigned status, std::string_view code, std::string_view detail) {
  return {.status = status,
          .body = R"({"error":")" + std::string{code} + R"(","detail":")" + std::string{detail} + "\"}"};
}

/// What a handler throws is its fault; the client only learns that it failed.
template <class Shared>
awaitable<answer> answered(Shared& server, request what) {
  try {
    co_return co_await as_awaitable(server.handle(std::move(what)));
  } catch (const std::exception&) {
    co_return answer{failed(500, "internal", "the request failed")};
  }
}

/// Reads a request. A client that waits for leave to send the body is given it.
template <class Shared, class Parser>
awaitable<error_code> read_request(Shared& server, beast::tcp_stream& to, beast::flat_buffer& buffer, Parser& parser) {
  to.expires_after(server.how.idle);
  const auto [no_head, head] = co_await http::async_read_header(to, buffer, parser, silently);
  if (no_head) co_return no_head;
  const auto& read = parser.get();
  if (!parser.is_done() && read.version() >= 11 && beast::iequals(read[http::field::expect], "100-continue")) {
    static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await asio::async_write(to, asio::buffer(go_on), silently);
  }
  const auto [no_body, body] = co_await http::async_read(to, buffer, parser, silently);
  co_return no_body;
}

/// Tells what was wrong. To close what a client still sends to would reset the connection, and the response with it:
/// the rest is read for a while.
template <class Shared>
awaitable<void> refuse(Shared& server, beast::tcp_stream& to, response why) {
  co_await send(server, to, std::move(why), nullptr);
  error_code ignored;
  to.socket().shutdown(tcp::socket::shutdown_send, ignored);
  to.expires_after(server.how.write_within);  // for all of it
  std::array<char, 4096> rest{};
  for (;;) {
    const auto [fault, size] = co_await to.async_read_some(asio::buffer(rest), silently);
    if (fault) break;
  }
}

template <class Shared>
awaitable<void> serve(std::shared_ptr<Shared> server, tcp::socket socket) {
  const counted here{server->connections};
  beast::tcp_stream to{std::move(socket)};
  const connected open{*server, to};
  beast::flat_buffer buffer{server->how.max_body + (32U << 10U)};
  while (!server->stopped.stop_requested()) {
    http::request_parser<http::string_body> parser;
    parser.body_limit(server->how.max_body);
    parser.header_limit(16U << 10U);
    const error_code fault = co_await read_request(*server, to, buffer, parser);
    if (fault == http::error::body_limit) {
      co_await refuse(*server, to, failed(413, "too_large", "the body is over the limit"));
      break;
    }
    if (fault == http::error::header_limit) {
      co_await refuse(*server, to, failed(431, "too_large", "the header is over the limit"));
      break;
    }
    if (fault) {
      const bool ended = fault == http::error::end_of_stream || fault == http::error::partial_message ||
                         fault == beast::error::timeout || fault.category() == asio::error::get_system_category();
      if (!ended) co_await refuse(*server, to, failed(400, "bad_request", "this is no HTTP request"));
      break;
    }
    const counted busy{server->busy};
    const http::request<http::string_body> read = parser.release();
    to.expires_never();
    answer made = co_await answered(*server, from(read));
    if (auto* const endless = std::get_if<stream>(&made)) {
      co_await send_stream(*server, to, *endless);
      break;
    }
    if (!co_await send(*server, to, std::get<response>(std::move(made)), &read)) break;
  }
  error_code ignored;
  to.socket().shutdown(tcp::socket::shutdown_both, ignored);
}

template <class Shared>
awaitable<void> accept(std::shared_ptr<Shared> server) {
  while (server->acceptor.is_open()) {
    auto [fault, socket] = co_await server->acceptor.async_accept(silently);
    if (!fault && server->connections >= server->how.max_connections) continue;
    if (!fault) {
      error_code ignored;
      socket.set_option(tcp::no_delay{true}, ignored);
      socket.set_option(tcp::socket::send_buffer_size{kept_by_kernel}, ignored);
      asio::co_spawn(server->loop, serve(server, std::move(socket)), asio::detached);
    } else if (server->acceptor.is_open()) {  // no descriptors, for example
      asio::steady_timer pause{server->loop, std::chrono::milliseconds{50}};
      co_await pause.async_wait(silently);
    }
  }
}

}  // namespace

http_server::http_server(asio::io_context& loop, server_options how, handler serve)
    : shared_{std::make_shared<shared>(loop, std::move(how), std::move(serve))} {
  tcp::acceptor& acceptor = shared_->acceptor;
  const tcp::endpoint at{asio::ip::make_address(shared_->how.address), shared_->how.port};
  acceptor.open(at.protocol());
  acceptor.set_option(tcp::acceptor::reuse_address{true});
  acceptor.set_option(asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>{true});
  error_code fault;
  acceptor.bind(at, fault);
  if (fault) throw boost::system::system_error{fault, "cannot listen on port " + std::to_string(shared_->how.port)};
  acceptor.listen(1024);
  asio::co_spawn(loop, accept(shared_), asio::detached);
}

http_server::~http_server() { stop(); }

void http_server::stop() {
  error_code ignored;
  shared_->acceptor.close(ignored);
  shared_->stopped.request_stop();
}

void http_server::abort() {
  for (beast::tcp_stream* const each : shared_->open) each->close();
}

std::uint16_t http_server::port() const noexcept {
  error_code ignored;
  return shared_->acceptor.local_endpoint(ignored).port();
}
std::size_t http_server::busy() const noexcept { return shared_->busy; }
std::size_t http_server::connections() const noexcept { return shared_->connections; }

}  // namespace gateway
