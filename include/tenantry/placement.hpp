#pragma once
// Where the names of a schema live.

namespace tenantry {

/// Where a schema's keys and shard channels live in a Redis Cluster.
enum class placement {
  spread,  ///< every key has its own slot: `kpi:acme:portfolio`
  tenant,  ///< all keys of a tenant share one slot, and its load: `kpi:{acme}:portfolio`
};

}  // namespace tenantry
