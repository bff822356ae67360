#include "net/socket.hpp"

#include "net/tls.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/un.h>
#include <utility>

namespace tenantry::net {

namespace {

void set(int fd, int level, int option, int value) noexcept {
  // Tuning only: a system that refuses one of these still carries the bytes.
  [[maybe_unused]] const int ignored = ::setsockopt(fd, level, option, &value, sizeof value);
}

void tune_tcp(int fd, std::chrono::milliseconds unacknowledged) noexcept {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
#endif
#ifdef TCP_USER_TIMEOUT
  set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(unacknowledged.count()));
#else
  (void)unacknowledged;
#endif
#ifdef SO_NOSIGPIPE
  set(fd, SOL_SOCKET, SO_NOSIGPIPE, 1);
#endif
}

#ifdef MSG_NOSIGNAL
constexpr int send_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
#else
constexpr int send_flags = MSG_DONTWAIT;  // SO_NOSIGPIPE is set instead
#endif

int open_stream(int family) noexcept {
#ifdef SOCK_CLOEXEC
  return ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
  const int fd = ::socket(family, SOCK_STREAM, 0);
  if (fd >= 0) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
  }
  return fd;
#endif
}

/// From here on a call waits unless it says that it does not, and none for longer than `socket::patience`.
bool allow_waiting(int fd) noexcept {
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(socket::patience);
  const timeval limit{.tv_sec = 0, .tv_usec = static_cast<suseconds_t>(whole.count())};
  if (::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) return false;
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

transfer outcome(ssize_t moved) noexcept {
  if (moved >= 0) return {.how = transfer::status::done, .size = static_cast<std::size_t>(moved)};
  if (errno == EAGAIN || errno == EWOULDBLOCK) return {.how = transfer::status::would_block};
  return {.how = transfer::status::failed, .fault = errno};
}

}  // namespace

transfer send_some(int fd, std::string_view bytes) noexcept {
  for (;;) {
    const ssize_t moved = ::send(fd, bytes.data(), bytes.size(), send_flags);
    if (moved < 0 && errno == EINTR) continue;
    return outcome(moved);
  }
}

transfer receive_some(int fd, std::span<char> room) noexcept {
  for (;;) {
    const ssize_t moved = ::recv(fd, room.data(), room.size(), MSG_DONTWAIT);
    if (moved < 0 && errno == EINTR) continue;
    if (moved == 0) return {.how = transfer::status::ended};
    return outcome(moved);
  }
}

socket::socket() noexcept = default;
socket::socket(socket&& from) noexcept = default;
socket::~socket() = default;

socket& socket::operator=(socket&& from) noexcept {
  tls_ = std::move(from.tls_);  // first: it says good-bye through the descriptor
  fd_ = std::move(from.fd_);
  can_wait_ = from.can_wait_;
  return *this;
}

address socket::unix_address(const std::string& path) {
  sockaddr_un name{};
  if (path.size() >= sizeof name.sun_path) throw std::length_error{"the path of a Unix socket is too long"};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  address to;
  std::memcpy(&to.storage, &name, sizeof name);
  to.size = sizeof name;
  return to;
}

socket::attempt socket::connect(const address& to, clock::time_point deadline, std::chrono::milliseconds unacknowledged,
                                std::span<const int> wakeups) {
  attempt result;
  descriptor fd{open_stream(to.storage.ss_family)};
  if (!fd) {
    result.fault = errno;
    return result;
  }
  if (to.storage.ss_family != AF_UNIX) tune_tcp(fd.get(), unacknowledged);

  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.size) != 0) {
    // EINTR leaves a non-blocking connect in progress; EAGAIN is a Unix socket whose backlog is full.
    if (errno != EINPROGRESS && errno != EINTR) {
      result.fault = errno;
      return result;
    }
    result.how = wait(fd.get(), POLLOUT, deadline, wakeups);
    if (result.how != ready::io) return result;
    socklen_t size = sizeof result.fault;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &result.fault, &size) != 0) result.fault = errno;
    if (result.fault != 0) return result;
  }
  result.connected.can_wait_ = allow_waiting(fd.get());
  result.connected.fd_ = std::move(fd);
  return result;
}

socket::encryption socket::start_tls(const tls_context& context, const std::string& host, clock::time_point deadline,
                                     std::span<const int> wakeups) {
  tls_session::attempt started = tls_session::start(context, fd_.get(), host, deadline, wakeups);
  tls_ = std::move(started.session);
  return std::move(started.outcome);
}

transfer socket::send(std::string_view bytes) const noexcept {
  return tls_ ? tls_->send(bytes) : send_some(fd_.get(), bytes);
}

transfer socket::receive(std::span<char> room) const noexcept {
  return tls_ ? tls_->receive(room) : receive_some(fd_.get(), room);
}

transfer socket::wait_and_receive(std::span<char> room) const noexcept {
  const ssize_t moved = ::recv(fd_.get(), room.data(), room.size(), 0);
  if (moved < 0 && errno == EINTR) return {.how = transfer::status::would_block};  // its time would begin anew
  if (moved == 0) return {.how = transfer::status::ended};
  return outcome(moved);
}

bool socket::buffered() const noexcept { return tls_ && tls_->buffered(); }

std::optional<tls_failure> socket::defect() const { return tls_ ? tls_->defect() : std::nullopt; }

bool socket::has_news() const noexcept {
  if (tls_) return tls_->has_news();
  char byte = 0;
  for (;;) {
    const ssize_t seen = ::recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (seen < 0 && errno == EINTR) continue;
    return seen >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }
}

void socket::shut_down() const noexcept { ::shutdown(fd_.get(), SHUT_RDWR); }

void socket::forget() noexcept {
  static_cast<void>(tls_.release());
  fd_.reset();
}

void socket::abort() const noexcept {
  if (tls_) tls_->abort();
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  [[maybe_unused]] const int ignored = ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

}  // namespace tenantry::net
