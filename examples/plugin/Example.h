// What the plugin is made of.
#pragma once

namespace example {

/// Adds the pass `example-count-chips`.
void registerCountChips();

/// Adds the solver `one-pool`.
void registerOnePool();

} // namespace example
