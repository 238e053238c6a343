// The one function that tombolo-opt looks for.
#include "Example.h"

#include "mlir/Tools/Plugins/PassPlugin.h"
#include "llvm/Config/llvm-config.h"

extern "C" LLVM_ATTRIBUTE_WEAK mlir::PassPluginLibraryInfo
mlirGetPassPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "TomboloExample", LLVM_VERSION_STRING, [] {
            example::registerCountChips();
            example::registerOnePool();
          }};
}
