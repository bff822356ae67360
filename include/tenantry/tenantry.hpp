#pragma once
// Everything, for applications that do not mind the compile time; each header also stands alone.

#include <tenantry/bounds.hpp>
#include <tenantry/breaker_options.hpp>
#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/client_options.hpp>
#include <tenantry/codec.hpp>
#include <tenantry/command.hpp>
#include <tenantry/error.hpp>
#include <tenantry/exclusive_connection.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/key.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/metrics.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/script.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/tls_options.hpp>
#include <tenantry/version.hpp>
