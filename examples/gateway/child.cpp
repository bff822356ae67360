#include "child.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <netinet/in.h>
#include <sstream>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

namespace gateway {

using namespace std::chrono_literals;

child::child(const std::vector<std::string>& command, const std::string& errors_to) {
  std::vector<char*> words;
  words.reserve(command.size() + 1);
  for (const std::string& each : command) words.push_back(const_cast<char*>(each.c_str()));
  words.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error{errno, std::generic_category(), "fork"};
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  ::setpgid(0, 0);  // Ctrl-C is for the demo, which ends the others in its order
  const int nothing = ::open("/dev/null", O_RDWR);
  ::dup2(nothing, 0);
  ::dup2(nothing, 1);
  if (!errors_to.empty()) {
    const int file = ::open(errors_to.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(file >= 0 ? file : nothing, 2);
  }
  ::execv(words[0], words.data());
  ::_exit(127);
}

child::child(child&& from) noexcept : pid_{std::exchange(from.pid_, 0)} {}
child& child::operator=(child&& from) noexcept {
  if (this != &from) {
    kill();
    pid_ = std::exchange(from.pid_, 0);
  }
  return *this;
}
child::~child() { end(); }

bool child::runs() {
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) != 0) pid_ = 0;
  return pid_ > 0;
}

void child::kill() noexcept {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

void child::end() noexcept {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  for (int i = 0; i < 500 && runs(); ++i) std::this_thread::sleep_for(10ms);
  kill();
}

std::string find_program(const std::string& name) {
  const char* const path = std::getenv("PATH");
  std::string all{path != nullptr ? path : ""};
  all += ":/usr/sbin:/usr/local/sbin";
  std::istringstream folders{all};
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (folder.empty()) continue;
    folder += '/';
    folder += name;
    if (::access(folder.c_str(), X_OK) == 0) return folder;
  }
  return {};
}

namespace {

/// The port that was bound, for a moment; 0 where it could not be.
unsigned short bound(unsigned short port) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);  // one that was left a moment ago is free
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  auto* const address = reinterpret_cast<sockaddr*>(&at);
  const bool done = ::bind(listener, address, size) == 0 && ::getsockname(listener, address, &size) == 0;
  ::close(listener);
  return done ? ntohs(at.sin_port) : 0;
}

}  // namespace

bool is_free(unsigned short port) { return bound(port) != 0; }

unsigned short free_port() {
  const unsigned short port = bound(0);
  if (port == 0) throw std::system_error{errno, std::generic_category(), "no port is free"};
  return port;
}

}  // namespace gateway
