//===- tombolo-plan.cpp - from a model and sites to a plan ----------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Options.h"
#include "SavedProblem.h"

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Import/Strategy.h"
#include "tombolo/Import/Topology.h"
#include "tombolo/Import/YamlPlaces.h"
#include "tombolo/InitAll.h"
#include "tombolo/Pipelines/StrategyClock.h"
#include "tombolo/Support/Interrupt.h"
#include "tombolo/Target/PlanExport.h"
#include "tombolo/Target/PlanSummary.h"
#include "tombolo/schema/plan.pb.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#ifdef TOMBOLO_MIMALLOC
#include <cstdlib>
#include <mimalloc.h>
#endif

using namespace mlir;
using namespace tombolo;

namespace {

/// Writes the IR after each pass to NN-PASS.mlir.
class PhaseDump : public PassInstrumentation {
public:
  /// Over all phases.
  struct State {
    unsigned count = 0;
    bool failed = false;
  };

  PhaseDump(std::string folder, State &state)
      : folder(std::move(folder)), state(state) {}

  void runAfterPass(Pass *pass, Operation *op) override {
    // Passes on parts of the module are seen through what follows them; one
    // error is enough.
    if (!isa<ModuleOp>(op) || pass->getArgument().empty() || state.failed)
      return;
    SmallString<128> path(folder);
    std::string number = std::to_string(state.count++);
    if (number.size() < 2)
      number = "0" + number;
    llvm::sys::path::append(path, number + "-" + pass->getArgument() + ".mlir");
    std::string text;
    llvm::raw_string_ostream stream(text);
    op->print(stream);
    state.failed = failed(
        writeFile(path, stream.str(), UnknownLoc::get(op->getContext())));
  }

private:
  std::string folder;
  State &state;
};

/// Diagnostics as `FILE:LINE:COLUMN: error: MESSAGE`, as far as the place is
/// known.
void printDiagnostic(const Diagnostic &diagnostic, StringRef model) {
  std::string place = "tombolo-plan";
  diagnostic.getLocation()->walk([&](Location loc) {
    if (auto file = dyn_cast<FileLineColLoc>(loc)) {
      place = file.getFilename().str();
      if (file.getLine() != 0)
        place += ":" + std::to_string(file.getLine()) + ":" +
                 std::to_string(file.getColumn());
      return WalkResult::interrupt();
    }
    if (auto name = dyn_cast<NameLoc>(loc)) {
      place = model.str() + ": '" + name.getName().str() + "'";
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  StringRef kind = "error";
  switch (diagnostic.getSeverity()) {
  case DiagnosticSeverity::Note:
    kind = "note";
    break;
  case DiagnosticSeverity::Warning:
    kind = "warning";
    break;
  case DiagnosticSeverity::Remark:
    kind = "remark";
    break;
  case DiagnosticSeverity::Error:
    break;
  }
  std::string message = diagnostic.str();
  // The operation's name is of no use to whoever wrote a model or a strategy.
  StringRef text = message;
  if (text.consume_front("'")) {
    size_t end = text.find("' op ");
    if (end != StringRef::npos && !text.take_front(end).contains(' '))
      text = text.drop_front(end + 5);
    else
      text = message;
  }
  llvm::errs() << place << ": " << kind << ": " << text << "\n";
  for (const Diagnostic &note : diagnostic.getNotes())
    printDiagnostic(note, model);
}

class Planner {
public:
  Planner(const PlanOptions &options, MLIRContext &context)
      : options(options), context(context), clock(options.lowering) {}

  int run() { return succeeded(plan()) ? 0 : 1; }

private:
  bool stopAt(Emit level) {
    if (options.emit != level)
      return false;
    module->print(llvm::outs());
    return true;
  }

  LogicalResult plan() {
    module = importOnnx(options.model, options.import, &context);
    if (!module)
      return failure();
    if (failed(runPhase([&](OpPassManager &manager) {
          addGraphPasses(manager, options.graph);
        })))
      return failure();
    if (stopAt(Emit::Graph))
      return success();

    std::optional<TopologyFile> sites =
        readTopologyFile(options.topology, llvm::errs());
    if (!sites)
      return failure();
    OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
    topo::buildTopology(
        builder,
        [&](const std::string &path) -> Location {
          // What is about no part of the file is about the file.
          return path.empty() ? fileLoc(options.topology)
                              : placeIn(sites->file, path, &context);
        },
        sites->topology);
    endWorkOnInterrupt();
    if (failed(runPhase([&](OpPassManager &manager) {
          addTopoPasses(manager);
          if (options.emit != Emit::Topo)
            addStrategyPasses(manager, options.search, options.lowering,
                              &clock);
        })))
      return failure();
    if (stopAt(Emit::Topo))
      return success();
    FailureOr<planning::SearchResult> figures = dist::toSearchResult(*module);
    if (failed(figures))
      return failure();
    found = std::move(*figures);
    // Words for people, no part of what is planned.
    if (auto text = dyn_cast_or_null<StringAttr>(
            (*module)->removeAttr(dist::kExplanationAttr)))
      explanation = text.str();
    if (failed(lower()))
      return failure();
    if (stopAt(Emit::Dist))
      return success();
    writePrediction();
    if (stopAt(Emit::Plan))
      return success();
    return write();
  }

  /// To stages with functions where that is asked for, else to programs.
  LogicalResult lower() {
    // Who looks at the passes sees all of them; else what the clock ran is
    // taken as it is. The clock has proved it, but for that the programs can
    // run to their ends, and for the IR: the first is seen when the message is
    // written, with all else that is in it, so only who prints the IR needs the
    // second.
    if (options.dumpPhasesTo.empty() && options.emit != Emit::Dist)
      if (OwningOpRef<ModuleOp> lowered =
              clock.takeLowered(found.strategies.front().strategy)) {
        module = std::move(lowered);
        return options.emit == Emit::Plan ? verify(*module) : success();
      }
    if (failed(runPhase([&](OpPassManager &manager) {
          addDistPasses(manager, options.lowering);
        })))
      return failure();
    if (options.emit == Emit::Dist)
      return success();
    return runPhase(addPlanPasses);
  }

  Location fileLoc(StringRef path) {
    return FileLineColLoc::get(&context, path, 0, 0);
  }

  LogicalResult runPhase(llvm::function_ref<void(OpPassManager &)> addPasses) {
    PassManager manager(&context);
    if (!options.dumpPhasesTo.empty()) {
      if (std::error_code error =
              llvm::sys::fs::create_directories(options.dumpPhasesTo))
        return emitError(fileLoc(options.dumpPhasesTo))
               << "cannot make the folder: " << error.message();
      manager.addInstrumentation(
          std::make_unique<PhaseDump>(options.dumpPhasesTo, dump));
    }
    addPasses(manager);
    // Once for all passes of the phase; `tombolo-opt` verifies after each.
    manager.enableVerifier(false);
    if (failed(manager.run(*module)) || failed(verify(*module)))
      return failure();
    return failure(dump.failed);
  }

  /// The figures go into the plan under the names of plan.proto.
  void writePrediction() {
    const planning::Prediction &from = found.strategies.front().prediction;
    OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
    SmallVector<NamedAttribute> values;
    auto set = [&](StringRef name, double value) {
      values.push_back(
          builder.getNamedAttr(name, builder.getF64FloatAttr(value)));
    };
    set("step_seconds", from.stepSeconds);
    set("tokens_per_second", from.tokensPerSecond);
    if (from.equivalentCompute)
      set("equivalent_compute", *from.equivalentCompute);
    if (from.equivalentComputeOfUsedChips)
      set("equivalent_compute_of_used_chips",
          *from.equivalentComputeOfUsedChips);
    set("wan_bytes_per_round", from.wanBytesPerRound);
    set("bubble_fraction", from.bubbleFraction);
    // The peaks are those of the programs, which are exact.
    SymbolTable symbols(*module);
    SmallVector<Attribute> islands;
    for (auto [op, predicted] :
         llvm::zip(module->getOps<plan::IslandOp>(), from.islands)) {
      SmallVector<int64_t> peaks, host;
      op.walk([&](plan::ReplicasOp group) {
        auto program = symbols.lookup<plan::ProgramOp>(group.getProgram());
        peaks.push_back(program.getArenaBytes().value_or(0));
        host.push_back(program.getHostBytes());
      });
      islands.push_back(builder.getDictionaryAttr(
          {builder.getNamedAttr("step_seconds",
                                builder.getF64FloatAttr(predicted.stepSeconds)),
           builder.getNamedAttr("peak_memory_bytes",
                                builder.getDenseI64ArrayAttr(peaks)),
           builder.getNamedAttr("host_memory_bytes",
                                builder.getDenseI64ArrayAttr(host))}));
    }
    values.push_back(
        builder.getNamedAttr("islands", builder.getArrayAttr(islands)));
    builder.create<plan::PredictionOp>(module->getLoc(),
                                       builder.getDictionaryAttr(values));
  }

  LogicalResult write() {
    // The last word: what is written can be run, to its end.
    FailureOr<ExportedPlan> message = exportPlan(*module);
    if (failed(message) || failed(checkPlan(**message, loc())))
      return failure();
    const planning::Candidate &best = found.strategies.front();
    FailureOr<std::string> bytes = serializePlan(**message, loc());
    if (failed(bytes))
      return failure();
    std::string json;
    llvm::raw_string_ostream stream(json);
    writeSummaryJson(stream, found, best);
    // Both or none.
    SmallVector<std::pair<StringRef, StringRef>> files{
        {options.output, *bytes}};
    if (!options.json.empty())
      files.push_back({options.json, stream.str()});
    if (failed(writeFiles(files, loc())))
      return failure();
    printPlanTable(llvm::outs(), best);
    llvm::outs() << planning::proofLine(found) << "\n";
    if (std::string line = planning::simulationLine(found); !line.empty())
      llvm::outs() << line << "\n";
    for (const std::string &line : planning::unusedChips(
             topo::toTopology(topo::findTopology(*module)), best.strategy))
      llvm::outs() << line << "\n";
    if (!explanation.empty())
      llvm::outs() << "\n" << explanation;
    return success();
  }

  Location loc() { return UnknownLoc::get(&context); }

  const PlanOptions &options;
  MLIRContext &context;
  OwningOpRef<ModuleOp> module;
  StrategyClock clock;
  planning::SearchResult found;
  std::string explanation;
  PhaseDump::State dump;
};

} // namespace

/// The status of a program whose last words could be written.
static int ended(int status) {
  llvm::outs().flush();
  if (std::error_code error = llvm::outs().error()) {
    llvm::outs().clear_error(); // else its end is that of the program
    llvm::errs() << "tombolo-plan: error: cannot write to standard output: "
                 << error.message() << "\n";
    return 1;
  }
  return status;
}

#ifdef TOMBOLO_MIMALLOC
/// Before the first allocation, which is that of some library's constructor.
static void chooseMemory() {
  // Planning takes a second or so: what is free will be wanted again.
  mi_option_disable(mi_option_allow_decommit);
  // One page fault for 2 MiB, where the system has such pages.
  mi_option_enable(mi_option_large_os_pages);
}
[[gnu::section(".preinit_array"),
  gnu::used]] static void (*const first)() = chooseMemory;
#endif

int main(int argc, char **argv) {
  int status = 0;
  std::optional<PlanOptions> options = parseOptions(argc, argv, status);
  if (!options)
    return status;
  if (!options->printSchema.empty()) {
    if (options->printSchema == "sites")
      writeTopologySchema(llvm::outs());
    else
      writeStrategySchema(llvm::outs());
    return ended(0);
  }
  if (!options->problem.empty())
    return ended(planSavedProblem(*options));
  DialectRegistry registry;
  registerAllDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  context.printOpOnDiagnostic(false);
  context.getDiagEngine().registerHandler([&](Diagnostic &diagnostic) {
    printDiagnostic(diagnostic, options->model);
  });
  Planner planner(*options, context);
  status = ended(planner.run());
#ifdef TOMBOLO_MIMALLOC
  // The system takes back in one piece what is here in a million.
  std::_Exit(status);
#endif
  return status;
}
