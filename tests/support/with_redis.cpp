// Runs a program with a private Redis server: tenantry_with_redis <program> [argument...]
//
// The server's URL is appended as the last argument. The exit status is the program's own, or 128 and its signal; 2 for
// wrong usage, 77 where there is no server to run (a test is skipped then; with TENANTRY_TEST_REQUIRE_REDIS=1 it is
// 125), 125 where the server does not start, 127 where the program does not.

#include <tenantry/testing/redis_server.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <spawn.h>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <system_error>
#include <vector>

namespace {

constexpr int wrong_usage = 2;
constexpr int skipped = 77;
constexpr int no_server = 125;
constexpr int no_program = 127;

volatile std::sig_atomic_t program = 0;

extern "C" void pass_on(int signal) {
  const int kept = errno;
  ::kill(program, signal);
  errno = kept;
}

bool redis_required() {
  const char* required = std::getenv("TENANTRY_TEST_REQUIRE_REDIS");
  return required != nullptr && std::string_view{required} == "1";
}

// Starts the program with the signals it would have had without us. Until `program` is set none is delivered here.
int start_program(std::vector<char*>& arguments) {
  sigset_t ours;
  sigset_t before;
  ::sigemptyset(&ours);
  for (const int signal : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) ::sigaddset(&ours, signal);
  ::sigprocmask(SIG_BLOCK, &ours, &before);

  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigmask(&attributes, &before);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t started = 0;
  const int error = ::posix_spawnp(&started, arguments[0], nullptr, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  program = started;

  // A terminal sends Ctrl-C to the program too; the others may reach only us. Either way the program decides.
  if (error == 0) {
    std::signal(SIGINT, SIG_IGN);
    std::signal(SIGQUIT, SIG_IGN);
    std::signal(SIGTERM, pass_on);
    std::signal(SIGHUP, pass_on);
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return error;
}

// Waits for the program to end without collecting it, so that no signal is passed on to a stranger with its pid.
int exit_status() {
  siginfo_t ended;
  while (::waitid(P_PID, static_cast<id_t>(program), &ended, WEXITED | WNOWAIT) != 0) {
    if (errno != EINTR) return no_program;
  }
  std::signal(SIGTERM, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  return ended.si_code == CLD_EXITED ? ended.si_status : 128 + ended.si_status;
}

int run(char** words, int count) {
  tenantry::testing::redis_server server;
  std::string url = server.url();
  std::vector<char*> arguments{words, words + count};
  arguments.push_back(url.data());
  arguments.push_back(nullptr);
  if (const int error = start_program(arguments); error != 0) {
    std::fprintf(stderr, "tenantry_with_redis: %s: %s\n", words[0], std::system_category().message(error).c_str());
    return no_program;
  }
  return exit_status();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: tenantry_with_redis <program> [argument...]\n", stderr);
    return wrong_usage;
  }
  if (!tenantry::testing::redis_server_available() && !redis_required()) {
    std::fputs("tenantry_with_redis: skipped, there is no redis-server or valkey-server to run\n", stderr);
    return skipped;
  }
  try {
    return run(argv + 1, argc - 1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tenantry_with_redis: %s\n", error.what());
    return no_server;
  }
}
