// A pass: how many chips does each island use?
#include "Example.h"

#include "tombolo/Dialect/Dist/IR/Dist.h"

#include "mlir/Pass/Pass.h"

using namespace mlir;
using namespace tombolo;

namespace {

/// Writes the number of chips of each `dist.island` to its attribute
/// `example.chips`. A chip that holds several stages would count once for each;
/// strategies do not have such chips.
struct CountChips : PassWrapper<CountChips, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CountChips)

  StringRef getArgument() const override { return "example-count-chips"; }
  StringRef getDescription() const override {
    return "writes the number of chips of each dist.island to example.chips";
  }

  void runOnOperation() override {
    getOperation().walk([](dist::IslandOp island) {
      int64_t chips = 0;
      island.walk([&](dist::ReplicasOp replicas) {
        chips += replicas.getCount() * replicas.getTensorParallel();
      });
      Builder builder(island.getContext());
      island->setAttr("example.chips", builder.getI64IntegerAttr(chips));
    });
  }
};

} // namespace

void example::registerCountChips() { PassRegistration<CountChips>(); }
