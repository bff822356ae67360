# Which floor each file belongs to, and what a floor may include. Read by IncludeLint.cmake; a file that is not listed
# fails the lint.

# Public headers, below include/tenantry/. Private files belong to the floor of their folder below src/.
set(floor_names_files
    catalog.hpp
    channel.hpp
    codec.hpp
    detail/argument_text.hpp
    detail/rendered_name.hpp
    detail/schema_args.hpp
    detail/schema_base.hpp
    detail/schema_overlap.hpp
    detail/schema_text.hpp
    error.hpp
    export.hpp
    fixed_string.hpp
    json_codec.hpp
    key.hpp
    key_schema.hpp
    placement.hpp
    sse.hpp
    tag.hpp
    tenant.hpp
    version.hpp)
set(floor_wire_files command.hpp reply.hpp script.hpp)
set(floor_engine_files
    bounds.hpp
    breaker_options.hpp
    client.hpp
    client_options.hpp
    exclusive_connection.hpp
    executor.hpp
    metrics.hpp
    observer.hpp
    task.hpp
    tls_options.hpp)
set(floor_caching_files
    cache.hpp
    cache_options.hpp
    cached.hpp
    detail/cache_core.hpp
    detail/fetched.hpp
    detail/load_scope.hpp
    detail/load_ticket.hpp
    detail/loader.hpp
    detail/near_pin.hpp
    detail/ttl.hpp
    detail/wait_graph.hpp
    invalidator.hpp
    load_context.hpp
    sweep.hpp
    undelivered.hpp)
set(floor_limiting_files concurrency_limiter.hpp rate_decision.hpp rate_limiter.hpp)
set(floor_messaging_files
    consumer.hpp
    detail/consume_core.hpp
    detail/event_iterator.hpp
    detail/feed_core.hpp
    detail/log_core.hpp
    detail/published.hpp
    event_log.hpp
    feed_events.hpp
    feed_loop.hpp
    publisher.hpp
    subscriber.hpp
    subscription.hpp)
set(floor_outside_files tenantry.hpp testing/redis_server.hpp)

set(floor_names_folders names)
set(floor_wire_folders resp)
set(floor_engine_folders net engine)
set(floor_caching_folders caching)
set(floor_limiting_folders limiting)
set(floor_messaging_folders messaging)
set(floor_outside_folders testing)

# The floors that each may include, itself among them. The three pattern families never see each other.
set(floors names wire engine caching limiting messaging outside)
set(floor_names_sees names)
set(floor_wire_sees names wire)
set(floor_engine_sees names wire engine)
foreach(family IN ITEMS caching limiting messaging)
  set(floor_${family}_sees names wire engine ${family})
endforeach()
set(floor_outside_sees ${floors})

# All that the pattern families may include from src/net and src/engine.
set(engine_seam engine/seam.hpp)

# System headers that a floor never includes.
set(io_headers
    "^(fstream|iostream|istream|ostream|fcntl\\.h|unistd\\.h|poll\\.h|netdb\\.h|sys/.*|netinet/.*|arpa/.*|linux/.*)$")
set(socket_headers "^(netdb\\.h|poll\\.h|sys/(socket|un|epoll|poll|select|eventfd)\\.h|netinet/.*|arpa/.*)$")
set(thread_headers
    "^(thread|mutex|shared_mutex|condition_variable|future|stop_token|semaphore|latch|barrier|pthread\\.h)$")
set(floor_names_forbidden ${io_headers} ${thread_headers})
set(floor_wire_forbidden ${socket_headers})

# Third-party headers, and the only files that may include them (relative to the root of the repository).
set(third_party hiredis openssl nlohmann fmt)
set(hiredis_includes "^hiredis(/|\\.h$)")
set(hiredis_allowed "^src/resp/decode\\.cpp$")
set(openssl_includes "^openssl/")
set(openssl_allowed "^src/net/tls\\.(hpp|cpp)$")
set(nlohmann_includes "^nlohmann/")
set(nlohmann_allowed "^include/tenantry/json_codec\\.hpp$")
set(fmt_includes "^fmt/")
set(fmt_allowed "^(src/.*|include/tenantry/(key_schema|channel)\\.hpp)$")
