#include "engine/engine.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tenantry {

namespace {

void check_call(const call_options& options) {
  if (options.timeout && options.timeout->count() <= 0) throw invalid_option{"call_options.timeout is not positive"};
}

reply value_or_throw(const command& sent, reply answer) {
  if (answer.is_error()) throw server_error{sent.name(), answer.error_text()};
  return answer;
}

/// EVALSHA or EVAL, with keys and arguments of any kind of text.
template <class Texts>
command script_command(std::string_view name, const std::string& body, const Texts& keys, const Texts& arguments) {
  const std::string count = std::to_string(keys.size());
  std::vector<std::string_view> words{name, body, count};
  words.insert(words.end(), keys.begin(), keys.end());
  words.insert(words.end(), arguments.begin(), arguments.end());
  return command{std::span<const std::string_view>{words}};
}

bool is_unknown_script(const reply& answer) {
  return answer.is_error() && server_error{"EVALSHA", answer.error_text()}.code() == errc::no_script;
}

/// A function of its own, because a coroutine must not refer to a caller that may be a temporary.
task<reply> eval_in(detail::engine& engine, const script& what, std::vector<std::string> keys,
                    std::vector<std::string> arguments, call_options how) {
  const auto deadline = engine.deadline_of(how);  // of both attempts
  try {
    auto by_digest = engine.async_run(script_command("EVALSHA", what.sha(), keys, arguments), reply{}, how, deadline);
    co_return co_await std::move(by_digest);
  } catch (const server_error& unknown) {
    if (unknown.code() != errc::no_script) throw;
  }
  auto whole = engine.async_run(script_command("EVAL", what.body(), keys, arguments), reply{}, how, deadline);
  co_return co_await std::move(whole);
}

}  // namespace

reply caller::execute(const command& one) const {
  reply answer;
  engine_->run({&one, 1}, {&answer, 1}, options_, engine_->deadline_of(options_));
  return value_or_throw(one, std::move(answer));
}

std::vector<reply> caller::execute_all(std::span<const command> commands) const {
  std::vector<reply> replies(commands.size());
  if (!commands.empty()) engine_->run(commands, replies, options_, engine_->deadline_of(options_));
  return replies;
}

reply caller::eval(const script& what, std::span<const std::string_view> keys,
                   std::span<const std::string_view> arguments) const {
  const auto deadline = engine_->deadline_of(options_);  // of both attempts
  const command by_digest = script_command("EVALSHA", what.sha(), keys, arguments);
  reply answer;
  engine_->run({&by_digest, 1}, {&answer, 1}, options_, deadline);
  if (!is_unknown_script(answer)) return value_or_throw(by_digest, std::move(answer));
  const command whole = script_command("EVAL", what.body(), keys, arguments);
  engine_->run({&whole, 1}, {&answer, 1}, options_, deadline);
  return value_or_throw(whole, std::move(answer));
}

task<reply> caller::async_execute(command one) const {
  return engine_->async_run(std::move(one), reply{}, options_, std::nullopt);
}

task<std::vector<reply>> caller::async_execute_all(std::vector<command> commands) const {
  std::vector<reply> replies(commands.size());
  return engine_->async_run(std::move(commands), std::move(replies), options_, std::nullopt);
}

task<reply> caller::async_eval(const script& what, std::vector<std::string> keys,
                               std::vector<std::string> arguments) const {
  return eval_in(*engine_, what, std::move(keys), std::move(arguments), options_);
}

client::client(std::string_view url) : client{client_options::from_url(url)} {}

client::client(client_options options) : client{std::make_unique<detail::engine>(std::move(options))} {}

client::client(std::unique_ptr<detail::engine> engine) : caller{*engine, call_options{}}, owned_{std::move(engine)} {}

client::~client() {
  if (!owned_->forked()) return;
  // The threads of the parent do not exist here, and its locks may be held for ever.
  owned_.release()->abandon();
}

caller client::with(call_options options) const {
  check_call(options);
  return caller{*owned_, std::move(options)};
}

exclusive_connection client::exclusive() const { return owned_->take_exclusive(); }

async_exclusive_connection client::async_exclusive() const { return owned_->take_async_exclusive(); }

client_metrics client::metrics() const { return owned_->metrics(); }

void client::close(std::chrono::milliseconds drain) {
  if (!owned_->forked()) owned_->close(drain);
}

}  // namespace tenantry
