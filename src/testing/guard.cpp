#include "testing/guard.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <fcntl.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace tenantry::testing {
namespace {

// Its stdin and stdout are a socket whose other end only the test process holds: end of file means that process is
// gone. Commands are lines: "start PORT" answers the pid, "kill" answers the exit status, anything else ends the guard.
// Between two commands the shell runs builtins only, so that a server which died stays unreaped and nobody else is
// given its pid before `kill`. Descriptor 3 of the server is its sign of life.
constexpr const char* script = R"(
trap '' HUP INT QUIT TERM PIPE
PATH=$PATH:/usr/bin:/bin
directory=$1
log=$2
program=$3
shift 3
server=
status=
end_server() {
  [ -n "$server" ] || return 0
  kill -s KILL "$server"
  wait "$server"
  status=$?
  server=
}
while read -r command port; do
  case $command in
    start)
      (
        trap - HUP INT QUIT TERM PIPE
        echo >&3
        exec "$program" --port "$port" "$@"
      ) 3>"$directory/alive" </dev/null >>"$log" 2>&1 &
      server=$!
      echo "$server"
      ;;
    kill)
      end_server
      echo "$status"
      ;;
    *) break ;;
  esac
done
end_server
rm -rf -- "$directory"
# The whole process group, because the server may have a child of its own that still saves.
kill -s KILL -- "-$$"
)";

}  // namespace

void fail(const std::string& what) { throw std::runtime_error{"redis_server: " + what}; }

void fail_errno(const std::string& what, int error) { fail(what + ": " + std::system_category().message(error)); }

guard::guard(std::filesystem::path directory, const std::filesystem::path& log, const std::filesystem::path& program,
             const std::vector<std::string>& arguments)
    : directory_{std::move(directory)}, owner_{::getpid()} {
  try {
    if (::mkfifo((directory_ / "alive").c_str(), 0600) != 0) fail_errno("cannot create a fifo", errno);
    std::vector<std::string> words{"/bin/sh", "-c", script, "tenantry-redis-guard", directory_, log, program};
    words.insert(words.end(), arguments.begin(), arguments.end());
    spawn(std::move(words));
  } catch (...) {
    finish();
    throw;
  }
}

void guard::spawn(std::vector<std::string> words) {
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    fail_errno("cannot create a socket pair", errno);
  }
  control_ = unique_fd{ends[0]};
  const unique_fd its_end{ends[1]};

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&files, its_end.get(), 0);
  ::posix_spawn_file_actions_adddup2(&files, its_end.get(), 1);
  ::posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
  ::posix_spawn_file_actions_addclosefrom_np(&files, 3);
#endif
  sigset_t signals;
  ::sigemptyset(&signals);
  ::posix_spawnattr_setsigmask(&attributes, &signals);
  ::sigfillset(&signals);
  ::posix_spawnattr_setsigdefault(&attributes, &signals);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, arguments[0], &files, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) fail_errno("cannot run /bin/sh", error);
  guard_ = child;
}

// Sends the guard one command and returns the number it answers.
long guard::command(const std::string& line) {
  std::string answer;
  if (::send(control_.get(), line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size())) {
    for (char next = 0; next != '\n';) {
      const ssize_t got = ::recv(control_.get(), &next, 1, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      answer += next;
    }
  }
  long number = 0;
  if (std::from_chars(answer.data(), answer.data() + answer.size(), number).ec != std::errc{}) {
    fail("the guard process is gone");
  }
  return number;
}

void guard::start_server(std::uint16_t port) {
  const auto fifo = directory_ / "alive";
  // Opened anew for each server: the old open file would still report the end of the server before.
  alive_.reset();  // or what the server before has left in the pipe would be read as this one's
  alive_ = unique_fd{::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  if (alive_.get() < 0) fail_errno("cannot open " + fifo.string(), errno);
  // Where a forked child of the program holds the pipe open as well, what the server before has left is still there.
  std::array<char, 8> left{};
  while (::read(alive_.get(), left.data(), left.size()) > 0) {
  }
  born_ = false;
  server_ = static_cast<pid_t>(command("start " + std::to_string(port) + "\n"));
}

std::optional<long> guard::end_server() {
  if (server_ == 0) return std::nullopt;
  const long status = command("kill\n");
  server_ = 0;
  return status;
}

std::optional<pid_t> guard::server() const {
  while (server_ != 0) {
    std::array<char, 8> buffer{};
    const ssize_t got = ::read(alive_.get(), buffer.data(), buffer.size());
    if (got > 0) {
      born_ = true;
    } else if (got == 0 && born_) {
      break;
    } else if (got == 0 || errno != EINTR) {
      return server_;
    }
  }
  return std::nullopt;
}

void guard::finish() noexcept {
  if (finished_ || owner_ != ::getpid()) return;
  finished_ = true;
  if (guard_ > 0) {
    ::send(control_.get(), "stop\n", 5, MSG_NOSIGNAL);
    control_.reset();
    // ECHILD: SIGCHLD is ignored, or the program reaps every child by itself. Either way the guard has ended.
    while (::waitpid(guard_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  // Only where somebody killed the guard is there anything left to do.
  if (const auto left = server()) ::kill(*left, SIGKILL);
  server_ = 0;
  alive_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

}  // namespace tenantry::testing
