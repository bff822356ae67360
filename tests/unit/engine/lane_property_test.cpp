// Random schedules of everything that can happen to a lane, against a server that answers each command with its own
// number. The invariants are those of the lane's class comment.

#include "engine/lane.hpp"
#include "support/random_bytes.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace tenantry;
using detail::exchange;
using detail::lane;

/// As REQUIRE, which would be most of the time that millions of checks take.
void must(bool holds, std::source_location where = std::source_location::current()) {
  if (!holds) FAIL("broken in line " << where.line());
}

constexpr std::array<std::string_view, 4> tenants{"", "acme", "globex", "initech"};

constexpr int first_number = 100000;

struct call : exchange {
  call(int first, int count) : number{first}, size{count}, answers(static_cast<std::size_t>(count)) {
    for (int i = 0; i < count; ++i) own.emplace_back("ECHO", first + i);
    commands = own;
    replies = answers;
  }

  int number;
  int size;
  std::vector<command> own;
  std::vector<reply> answers;
  bool abandoned = false;
  bool refused = false;
  int settlings = 0;
};

/// Reads commands byte by byte and answers each with its argument.
struct echo_server {
  std::string unread;
  std::string unsent;
  std::vector<int>* executed;

  void take(std::string_view bytes) {
    unread += bytes;
    for (;;) {  // *2 $4 ECHO $n digits
      const std::size_t word = unread.find("ECHO\r\n$");
      if (word == std::string::npos) return;
      const std::size_t begin = unread.find("\r\n", word + 7);
      if (begin == std::string::npos) return;
      const std::size_t end = unread.find("\r\n", begin + 2);
      if (end == std::string::npos) return;
      const std::string digits = unread.substr(begin + 2, end - begin - 2);
      executed->push_back(std::stoi(digits));
      unsent += ":" + digits + "\r\n";
      unread.erase(0, end + 2);
    }
  }
};

class schedule {
 public:
  explicit schedule(support::random_bytes& random) : random_{random} { lane_.connected(now_); }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
    while (lane_.has_output() || lane_.expects_replies()) {
      write(std::string::npos);
      receive(std::string::npos);
    }
    check_settled();
    for (const auto& each : calls_) {
      if (each->abandoned || each->refused) {
        must(each->settlings == 0);
      } else {
        must(each->settlings == 1);
      }
    }
    must(lane_.idle());
    // In order for each tenant and never twice, across connections too; and what was called not sent did not run.
    std::map<std::string_view, int> latest;
    for (const int number : executed_) {
      int& before = latest[caller_of_[static_cast<std::size_t>(number - first_number)]->tenant];
      must(before < number);
      before = number;
    }
    std::ranges::sort(executed_);
    for (const int number : never_) must(!(std::ranges::binary_search(executed_, number)));
  }

 private:
  std::size_t upto(std::size_t most) { return random_.below(most + 1); }

  void step() {
    switch (upto(9)) {
      case 0:
      case 1:
      case 2:
        enqueue();
        break;
      case 3:
      case 4:
        write(upto(60));
        break;
      case 5:
      case 6:
      case 7:
        receive(upto(20));
        break;
      case 8:
        abandon();
        break;
      default:
        if (upto(9) == 0) end();
    }
    check_settled();
  }

  void enqueue() {
    const int size = static_cast<int>(upto(2)) + 1;
    calls_.push_back(std::make_unique<call>(next_, size));
    next_ += size;
    caller_of_.resize(static_cast<std::size_t>(next_ - first_number), calls_.back().get());
    call& fresh = *calls_.back();
    fresh.tenant = tenants[upto(tenants.size() - 1)];
    fresh.refused = !lane_.enqueue(fresh);
    if (fresh.refused) never_.push_back(fresh.number);
  }

  void write(std::size_t at_most) {
    if (!lane_.has_output()) return;
    const std::string_view bytes = lane_.output().substr(0, at_most);
    server_.take(bytes);
    lane_.wrote(bytes.size(), now_);
  }

  void receive(std::size_t at_most) {
    std::string_view bytes = std::string_view{server_.unsent}.substr(0, at_most);
    while (!bytes.empty()) {
      const auto room = lane_.room();
      const std::size_t size = std::min(room.size(), bytes.size());
      std::copy_n(bytes.begin(), size, room.begin());
      lane_.parse(size);
      must(!(lane_.match(now_, settled_)));
      bytes.remove_prefix(size);
    }
    server_.unsent.erase(0, std::min(at_most, server_.unsent.size()));
  }

  void abandon() {
    if (calls_.empty()) return;
    call& chosen = *calls_[upto(calls_.size() - 1)];
    if (chosen.settled() || chosen.abandoned || chosen.refused) return;
    chosen.abandoned = true;
    if (lane_.abandon(chosen) == execution::not_sent) never_.push_back(chosen.number);
    chosen.own.clear();  // the caller's frame is gone
    chosen.answers.clear();
  }

  void end() {
    lane_.ended({.code = errc::connection_lost, .what = execution::unknown, .detail = {}}, settled_);
    server_.unread.clear();
    server_.unsent.clear();
    lane_.connected(now_);
  }

  void check_settled() {
    for (exchange* each : settled_) {
      auto& done = static_cast<call&>(*each);
      done.finish();
      must(!(done.abandoned));
      must(++done.settlings == 1);
      if (done.now.load() == exchange::state::done) {
        for (std::size_t i = 0; i < done.answers.size(); ++i) {
          must(done.answers[i].integer() == done.number + static_cast<int>(i));  // its own, and nobody else's
        }
      } else {
        must(done.why.what == execution::unknown);
      }
    }
    settled_.clear();
  }

  support::random_bytes& random_;
  lane::time_point now_{std::chrono::hours{1}};
  lane lane_{reply_limits{}, {.in_flight = 6, .queued = 12, .tenant_share = 0.5}};
  std::vector<int> executed_;
  echo_server server_{.unread = {}, .unsent = {}, .executed = &executed_};
  std::vector<std::unique_ptr<call>> calls_;
  std::vector<exchange*> settled_;
  std::vector<int> never_;
  std::vector<const call*> caller_of_;  // of each number
  int next_ = first_number;
};

}  // namespace

TEST_CASE("in any order of events every call settles once, with its own replies, and execution() is true") {
  support::random_bytes random;
  for (int i = 0; i < 100'000; ++i) schedule{random}.run(30);
}
