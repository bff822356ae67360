#pragma once
// Loaders of every kind, as a cache calls them.

#include <tenantry/codec.hpp>
#include <tenantry/detail/cache_core.hpp>
#include <tenantry/detail/load_scope.hpp>
#include <tenantry/key.hpp>
#include <tenantry/load_context.hpp>
#include <tenantry/task.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tenantry::detail {

template <class R>
struct awaited {
  using type = R;
  static constexpr bool later = false;
};
template <class R>
struct awaited<task<R>> {
  using type = R;
  static constexpr bool later = true;
};

/// What a loader may return for values of T, directly or as a task.
template <class R, class T>
concept loadable = std::convertible_to<typename awaited<R>::type, T> ||
                   std::convertible_to<typename awaited<R>::type, std::optional<T>>;

template <class F>
decltype(auto) call_loader(F& loader, const key& k, load_context& context) {
  if constexpr (std::is_invocable_v<F&, const key&, load_context&>) {
    return std::invoke(loader, k, context);
  } else if constexpr (std::is_invocable_v<F&, const key&>) {
    return std::invoke(loader, k);
  } else {
    return std::invoke(loader);
  }
}

template <class F>
concept callable_loader = std::is_invocable_v<F&> || std::is_invocable_v<F&, const key&> ||
                          std::is_invocable_v<F&, const key&, load_context&>;

template <class F>
using loader_result = std::remove_cvref_t<decltype(call_loader(std::declval<F&>(), std::declval<const key&>(),
                                                               std::declval<load_context&>()))>;

template <class F, class T>
concept loader_of = callable_loader<F> && loadable<loader_result<F>, T>;

template <class R>
inline constexpr bool is_optional = false;
template <class R>
inline constexpr bool is_optional<std::optional<R>> = true;

/// A loader's result without its type. One that is a task is waited for.
template <class T, class R>
any_value value_of(R&& result) {
  using plain = std::remove_cvref_t<R>;
  if constexpr (awaited<plain>::later) {
    return value_of<T>(sync_wait(std::forward<R>(result)));
  } else if constexpr (is_optional<plain> && !std::same_as<plain, T>) {
    if (!result) return nullptr;
    return std::make_shared<const T>(*std::forward<R>(result));
  } else {
    return std::make_shared<const T>(std::forward<R>(result));
  }
}

/// The loader of a cache, for threads and for coroutines.
template <class T>
struct own_loader {
  template <class F>
  explicit own_loader(F loader) {
    auto shared = std::make_shared<F>(std::move(loader));
    blocking = [shared](const key& k, load_context& context) { return value_of<T>(call_loader(*shared, k, context)); };
    if constexpr (awaited<loader_result<F>>::later) {
      async = [shared](const key& k, load_context& context) { return await(*shared, k, context); };
    } else {
      async = [shared](const key& k, load_context& context) { return call(*shared, k, context); };
    }
  }

  any_loader blocking;
  any_async_loader async;

 private:
  template <class F>
  static task<any_value> await(F& loader, const key& k, load_context& context) {
    auto loading = call_loader(loader, k, context);
    auto made = co_await std::move(loading);
    co_return value_of<T>(std::move(made));
  }
  template <class F>
  static task<any_value> call(F& loader, const key& k, load_context& context) {
    const load_scope scope{load_access::chain(context)};  // it stays on this thread
    co_return value_of<T>(call_loader(loader, k, context));
  }
};

template <class F, class T>
concept batch_loader_of = std::is_invocable_r_v<std::vector<T>, F&, std::span<const key>> ||
                          std::is_invocable_r_v<std::vector<T>, F&, std::span<const key>, load_context&> ||
                          std::is_invocable_r_v<std::vector<std::optional<T>>, F&, std::span<const key>> ||
                          std::is_invocable_r_v<std::vector<std::optional<T>>, F&, std::span<const key>, load_context&>;

template <class T, class F>
any_batch_loader any_batch(F loader) {
  return [own = std::make_shared<F>(std::move(loader))](std::span<const key> keys, load_context& context) {
    auto made = [&] {
      if constexpr (std::is_invocable_v<F&, std::span<const key>, load_context&>) {
        return std::invoke(*own, keys, context);
      } else {
        return std::invoke(*own, keys);
      }
    }();
    std::vector<any_value> values;
    values.reserve(made.size());
    for (auto&& each : made) values.push_back(value_of<T>(std::move(each)));
    return values;
  };
}

template <class T, class Codec>
value_codec codec_for() {
  return {.decode = [codec = Codec{}](std::string_view bytes) -> any_value {
            try {
              return std::make_shared<const T>(codec.decode(bytes));
            } catch (...) {  // whatever a codec throws, the value cannot be used
              return nullptr;
            }
          },
          .encode = [codec = Codec{}](const void* value) -> std::string {
            return codec.encode(*static_cast<const T*>(value));
          },
          .memory = [codec = Codec{}](const void* value, std::size_t encoded) -> std::size_t {
            if constexpr (requires(const T& one) { std::size_t{codec.memory(one)}; }) {
              return codec.memory(*static_cast<const T*>(value));
            } else {
              return sizeof(T) + encoded;
            }
          }};
}

}  // namespace tenantry::detail
