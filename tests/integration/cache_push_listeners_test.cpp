// Who is told what comes on the push connection of a client's caches, and until when.

#include "caching/cache_pushes.hpp"
#include "caching/wakeups.hpp"
#include "support/cache_rig.hpp"
#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace {

using namespace std::chrono_literals;
using tenantry::detail::cache_pushes;
using tenantry::detail::invalidation_channel;
using tenantry::detail::push_event;
using tenantry::detail::push_kind;
namespace push = tenantry::detail::push;
using hears = cache_pushes::hears;
using support::eventually;
using support::redis_rig;

/// Keeps what it is told of one channel, and does something then.
class ear final : public cache_pushes::listener {
 public:
  explicit ear(std::function<void()> also = [] {}) : also_{std::move(also)} {}

  void told(const push_event& what) override {
    if (const auto* message = std::get_if<push::message>(&what)) {
      also_();
      const std::lock_guard held{mutex_};
      heard_.push_back(message->payload);
    }
    if (std::holds_alternative<push::ended>(what)) ++ends_;
  }
  [[nodiscard]] std::vector<std::string> heard() const {
    const std::lock_guard held{mutex_};
    return heard_;
  }
  [[nodiscard]] int ends() const { return ends_; }

 private:
  std::function<void()> also_;
  mutable std::mutex mutex_;
  std::vector<std::string> heard_;
  std::atomic<int> ends_{0};
};

using texts = std::vector<std::string>;

struct rig : redis_rig {
  [[nodiscard]] bool listens_to(std::string_view channel) const {
    return client.execute("PUBSUB", "NUMSUB", channel)[1].integer() == 1;
  }
  /// Returns when the server sends the messages of the channel.
  void listen() const {
    pushes->connection().want(push_kind::channel, "news");
    REQUIRE(eventually([&] { return listens_to("news"); }));
  }
  void say(const std::string& text) const { client.execute("PUBLISH", "news", text); }

  std::shared_ptr<cache_pushes> pushes = cache_pushes::of(client);
};

}  // namespace

TEST_CASE("all who listen on the push connection of the caches hear all, and its end") {
  const support::must_end ends;
  rig with;
  ear one;
  ear two;
  const cache_pushes::member first{*with.pushes, one, hears::wakeups};
  const cache_pushes::member second{*with.pushes, two, hears::invalidations};
  with.listen();
  with.say("a");
  with.say("b");
  CHECK(eventually([&] { return one.heard() == texts{"a", "b"} && two.heard() == texts{"a", "b"}; }));
  with.client.execute("CLIENT", "KILL", "TYPE", "pubsub");
  CHECK(eventually([&] { return one.ends() == 1 && two.ends() == 1; }));
}

TEST_CASE("nobody misses a message because another one leaves or comes while it is told") {
  const support::must_end ends;
  rig with;
  ear late;
  ear leaves;
  std::optional<cache_pushes::member> place;
  std::optional<cache_pushes::member> late_place;
  ear also{[&] {
    place.reset();
    if (!late_place) late_place.emplace(*with.pushes, late, hears::wakeups);
  }};
  ear last;
  place.emplace(*with.pushes, leaves, hears::wakeups);
  std::optional<cache_pushes::member> second{std::in_place, *with.pushes, also, hears::wakeups};
  const cache_pushes::member third{*with.pushes, last, hears::wakeups};
  with.listen();
  with.say("a");
  with.say("b");
  CHECK(eventually([&] { return last.heard().size() == 2; }));
  CHECK(eventually([&] { return !late.heard().empty(); }));
  second.reset();  // and with it whoever uses the places
  CHECK(leaves.heard() == texts{"a"});
  CHECK(also.heard() == texts{"a", "b"});
  CHECK(last.heard() == texts{"a", "b"});
  CHECK(late.heard().back() == "b");
}

TEST_CASE("who leaves the push connection waits for what it is just told, and hears nothing afterwards") {
  const support::must_end ends;
  rig with;
  support::gate inside;
  support::gate release;
  ear slow{[&] {
    inside.open();
    release.wait();
  }};
  ear other;
  std::optional<cache_pushes::member> place{std::in_place, *with.pushes, slow, hears::wakeups};
  const cache_pushes::member stays{*with.pushes, other, hears::wakeups};
  with.listen();
  with.say("a");
  with.say("b");
  REQUIRE(inside.wait());
  auto leaving = support::on_thread([&] { place.reset(); });
  const support::opens_at_end cleanup{release};
  CHECK(leaving.wait_for(50ms) == std::future_status::timeout);
  release.open();
  leaving.get();
  const texts before = slow.heard();
  CHECK_FALSE(before.empty());
  with.say("c");
  CHECK(eventually([&] { return other.heard() == texts{"a", "b", "c"}; }));
  CHECK(slow.heard() == before);
}

TEST_CASE("invalidations are heard until the last who hears them has left") {
  const support::must_end ends;
  rig with;
  ear one;
  ear two;
  std::optional<cache_pushes::member> first{std::in_place, *with.pushes, one, hears::invalidations};
  std::optional<cache_pushes::member> second{std::in_place, *with.pushes, two, hears::invalidations};
  REQUIRE(eventually([&] { return with.listens_to(invalidation_channel); }));
  first.reset();
  with.listen();  // which is sent after whatever that has changed
  CHECK(with.listens_to(invalidation_channel));
  second.reset();
  CHECK(eventually([&] { return !with.listens_to(invalidation_channel); }));
  CHECK(with.listens_to("news"));
}

TEST_CASE("who leaves the push connection in the child of a fork does not wait for a thread of the parent") {
  const support::must_end ends;
  rig with;
  support::gate inside;
  support::gate release;
  ear slow{[&] {
    inside.open();
    release.wait();
  }};
  std::optional<cache_pushes::member> place{std::in_place, *with.pushes, slow, hears::wakeups};
  const support::opens_at_end cleanup{release};
  with.listen();
  with.say("a");
  REQUIRE(inside.wait());
  CHECK(support::in_child([&] {
          place.reset();
          with.pushes.reset();
          return 0;
        }) == 0);
  release.open();
  CHECK(eventually([&] { return slow.heard() == texts{"a"}; }));
}

TEST_CASE("who stops waiting for a lease in the child of a fork does not wait for a thread of the parent") {
  const support::must_end ends;
  rig with;
  const auto hub = tenantry::detail::wakeups::of(with.client);
  tenantry::detail::wakeups::waiter woken{hub, "news"};
  std::optional<tenantry::detail::wakeups::waiter> other{std::in_place, hub, "news"};
  REQUIRE(woken.wait_until(std::chrono::steady_clock::now() + 20s));  // its messages come
  support::gate inside;
  support::gate release;
  const std::stop_callback blocks{woken.next_wakeup(), [&] {
                                    inside.open();
                                    release.wait();
                                  }};
  const support::opens_at_end cleanup{release};
  with.say("a");
  REQUIRE(inside.wait());
  CHECK(support::in_child([&] {
          other.reset();
          return 0;
        }) == 0);
}
