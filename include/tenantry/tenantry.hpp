#pragma once
// Everything, for applications that do not mind the compile time; each header also stands alone.

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/codec.hpp>
#include <tenantry/command.hpp>
#include <tenantry/error.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/key.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/script.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/version.hpp>
