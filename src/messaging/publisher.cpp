#include "engine/seam.hpp"

#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/publisher.hpp>

namespace tenantry {

namespace {

using namespace std::chrono_literals;

std::string_view command_of(channel_scope scope) noexcept {
  return scope == channel_scope::shard ? "SPUBLISH" : "PUBLISH";
}

void tell(const client& redis, const channel& to, std::size_t bytes, std::int64_t receivers) {
  if (!detail::seam::observed(redis)) return;
  const tenant_id tenant = to.tenant();
  detail::seam::notify(redis, events::published,
                       {{.name = "tenant", .value = std::string_view{tenant.str()}},
                        {.name = "channel", .value = std::string_view{to.str()}},
                        {.name = "bytes", .value = static_cast<std::int64_t>(bytes)},
                        {.name = "receivers", .value = receivers}});
}

task<std::uint64_t> sent(const client& redis, caller by, command one, channel to, std::size_t bytes) {
  auto sending = by.async_execute(std::move(one));
  const reply answer = co_await std::move(sending);
  tell(redis, to, bytes, answer.integer());
  co_return static_cast<std::uint64_t>(answer.integer());
}

}  // namespace

publisher::publisher(const client& redis, const publisher_options& how) : redis_{&redis}, how_{how} {
  if (how.max_payload == 0) throw invalid_option{"publisher_options.max_payload is 0"};
  if (how.timeout < 1ms) throw invalid_option{"publisher_options.timeout is less than 1 ms"};
}

command publisher::made(const channel& to, std::string_view payload) const {
  if (payload.size() > how_.max_payload) {
    throw invalid_option{"a payload of " + std::to_string(payload.size()) +
                         " bytes is over publisher_options.max_payload, " + std::to_string(how_.max_payload)};
  }
  return command{command_of(how_.scope), to.str(), payload};
}

std::uint64_t publisher::publish(const channel& to, std::string_view payload) const {
  const command one = made(to, payload);
  const tenant_id tenant = to.tenant();
  const std::int64_t receivers =
      redis_->with({.timeout = how_.timeout, .retry = retry::never, .tenant = &tenant}).execute(one).integer();
  tell(*redis_, to, payload.size(), receivers);
  return static_cast<std::uint64_t>(receivers);
}

task<std::uint64_t> publisher::async_publish(const channel& to, std::string_view payload) const {
  return sent(*redis_, redis_->with({.timeout = how_.timeout, .retry = retry::never}), made(to, payload), to,
              payload.size());
}

std::vector<std::uint64_t> publisher::publish_all(std::span<const outgoing> messages) const {
  std::vector<command> all;
  all.reserve(messages.size());
  for (const outgoing& each : messages) all.push_back(made(each.to, each.payload));
  const std::vector<reply> replies = redis_->with({.timeout = how_.timeout, .retry = retry::never}).execute_all(all);
  std::vector<std::uint64_t> receivers;
  receivers.reserve(replies.size());
  for (std::size_t i = 0; i < replies.size(); ++i) {
    if (replies[i].is_error()) throw server_error{command_of(how_.scope), replies[i].error_text()};
    receivers.push_back(static_cast<std::uint64_t>(replies[i].integer()));
    tell(*redis_, messages[i].to, messages[i].payload.size(), replies[i].integer());
  }
  return receivers;
}

}  // namespace tenantry
