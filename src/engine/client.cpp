#include "engine/blocking_driver.hpp"
#include "engine/options.hpp"
#include "engine/shared_rules.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>

#include <utility>

namespace tenantry {

namespace {

client_options checked(client_options options) {
  detail::check(options);
  return options;
}

void check_call(const call_options& options) {
  if (options.timeout && options.timeout->count() <= 0) throw invalid_option{"call_options.timeout is not positive"};
}

reply value_or_throw(const command& sent, reply answer) {
  if (answer.is_error()) throw server_error{sent.name(), answer.error_text()};
  return answer;
}

}  // namespace

void caller::run(std::span<const command> commands, std::span<reply> replies,
                 std::chrono::steady_clock::time_point deadline) const {
  for (const command& each : commands) {
    if (each.bytes().empty()) throw invalid_option{"a command that was moved away cannot be sent"};
    detail::check_shareable(each);
  }
  driver_->run(commands, replies, deadline, options_.stop);
}

reply caller::execute_until(std::chrono::steady_clock::time_point deadline, const command& one) const {
  reply answer;
  run({&one, 1}, {&answer, 1}, deadline);
  return value_or_throw(one, std::move(answer));
}

reply caller::execute(const command& one) const { return execute_until(driver_->deadline_of(options_), one); }

std::vector<reply> caller::execute_all(std::span<const command> commands) const {
  std::vector<reply> replies(commands.size());
  if (!commands.empty()) run(commands, replies, driver_->deadline_of(options_));
  return replies;
}

reply caller::eval(const script& what, std::span<const std::string_view> keys,
                   std::span<const std::string_view> arguments) const {
  const std::string count = std::to_string(keys.size());
  std::vector<std::string_view> words{"EVALSHA", what.sha(), count};
  words.insert(words.end(), keys.begin(), keys.end());
  words.insert(words.end(), arguments.begin(), arguments.end());
  const auto deadline = driver_->deadline_of(options_);  // of both attempts
  try {
    return execute_until(deadline, command{std::span<const std::string_view>{words}});
  } catch (const server_error& missing) {
    if (missing.code() != errc::no_script) throw;
  }
  words[0] = "EVAL";
  words[1] = what.body();
  return execute_until(deadline, command{std::span<const std::string_view>{words}});
}

client::client(std::string_view url) : client{client_options::from_url(url)} {}

client::client(client_options options)
    : client{std::make_unique<detail::blocking_driver>(checked(std::move(options)))} {}

client::client(std::unique_ptr<detail::blocking_driver> driver)
    : caller{*driver, call_options{}}, owned_{std::move(driver)} {}

client::~client() = default;

caller client::with(call_options options) const {
  check_call(options);
  return caller{*owned_, std::move(options)};
}

void client::close(std::chrono::milliseconds drain) { owned_->close(drain); }

}  // namespace tenantry
