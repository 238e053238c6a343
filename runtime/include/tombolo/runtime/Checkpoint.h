//===- Checkpoint.h - the state of an island on disk ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// DIR/island-I/step-N/ holds one safetensors shard for each rank that owns
// something, and manifest.json, written last: without it the generation does
// not exist. A rank says by its part of the manifest that its shard is durable.
// Two generations are kept. A shard holds the owned elements of
// each parameter under its ONNX name and of each optimizer state under
// NAME/exp_avg ...; a part of a parameter is one-dimensional, and the manifest
// says which ranges of the whole it is. The manifest carries a checksum of
// itself and a SHA-256 of each tensor and of each shard's header, checked
// before they are used. A checkpoint loads under any other plan of the same
// model.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_CHECKPOINT_H
#define TOMBOLO_RUNTIME_CHECKPOINT_H

#include "tombolo/runtime/Exchange.h"
#include "tombolo/runtime/plan/Parameters.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tombolo::runtime {

class InputFile;

/// What a checkpoint says besides tensors.
struct CheckpointInfo {
  std::string modelHash; ///< 32 bytes
  std::uint32_t island = 0;
  std::uint64_t step = 0;       ///< of the job (IslandSteps)
  std::uint64_t islandStep = 0; ///< inner steps that the island has done
  std::int64_t updates = 0;     ///< optimizer updates applied
  std::uint64_t nextSample = 0; ///< the island's first sample of step `step`
  std::uint64_t freeSample = 0; ///< the first that no island has been dealt
  // How samples were dealt; when a plan deals alike, `nextSample` holds for it.
  std::uint64_t innerSteps = 0;       ///< 0: no server
  std::vector<std::uint64_t> batches; ///< of every island of the run
  /// Likewise, where an island has its own.
  std::vector<std::uint64_t> ownInnerSteps;
  // Of an island with a parameter server: what follows from these,
  // NAME/outer_*, is there for plans with the same contract alone.
  std::string contract;              ///< 32 bytes, its digest
  std::vector<FragmentPoint> points; ///< by fragment; empty: no server
};

/// One tensor to save: `parameter` says which elements, `read` gives them.
struct SavedTensor {
  std::string name; ///< NAME or NAME/state
  const LocalParameter *parameter = nullptr;
  /// Fills `to` with local elements from `begin` on; called from 0 upwards.
  std::function<void(std::uint64_t begin, std::span<float> to)> read;
};

/// "DIR/island-I/step-N"
std::string checkpointFolder(const std::string &dir, std::uint32_t island,
                             std::uint64_t step);

/// The newest whole generation, "" when there is none.
std::string latestCheckpoint(const std::string &dir, std::uint32_t island);

/// The generation that `island` goes on from, "" when there is none: its own
/// newest, or, when the run that wrote island 0's newest had no such island,
/// that one. With `step`: of that step instead of the newest; where it has none
/// of its own there, that of the first island that has.
std::string resumedCheckpoint(const std::string &dir, std::uint32_t island,
                              std::optional<std::uint64_t> step = {});

/// Is told of damage, in words that name the file.
using DamageListener =
    std::function<void(std::uint32_t island, const std::string &message)>;

/// Where copies of generations are (`--checkpoint-copy`): as they lie in the
/// checkpoint folder.
struct CheckpointCopies {
  std::string dir; ///< empty: nowhere
  /// Is told of each generation that is put back from there.
  DamageListener restored = [](std::uint32_t, const std::string &) {};
};

/// The newest step from which every one of `islands` can go on; none when there
/// is none. Reads every byte of it and checks it. `damaged` is told of each
/// generation that is passed over for its damage. What of these islands is
/// damaged or missing in `dir` is first put back from its copy, if that is
/// whole; nobody may be saving there.
std::optional<std::uint64_t>
resumableStep(const std::string &dir, const std::set<std::uint32_t> &islands,
              const DamageListener &damaged,
              const CheckpointCopies &copies = {});

/// Where a whole run goes on from.
struct ResumePoint {
  std::uint64_t step = 0;
  std::set<std::uint32_t> without; ///< islands that have nothing whole there
};

/// The newest step from which all `islands` can go on. Where there is none, as
/// behind a run that has lost an island, of the two newest steps the one from
/// which more can: what is lost goes no further back than one generation.
/// Otherwise as `resumableStep`.
std::optional<ResumePoint> resumePoint(const std::string &dir,
                                       const std::set<std::uint32_t> &islands,
                                       const DamageListener &damaged,
                                       const CheckpointCopies &copies = {});

/// Puts the generation in `copy` into the place of `folder`, durable; what
/// stood there becomes set-aside beside it (in the place of an earlier one).
/// Throws Error, with nothing changed, when the copy is not whole.
void restoreGeneration(const std::string &copy, const std::string &folder);

/// Before `island` goes on from `step`: the newest generation beyond it becomes
/// DIR/island-I/set-aside (in the place of an earlier one), where a person may
/// look at it; it counts no more.
void setAsideBeyond(const std::string &dir, std::uint32_t island,
                    std::uint64_t step);

/// Removes what saving has left unfinished: generations without a manifest, and
/// files aside and parts of manifests in the others. Nothing of the island may
/// be saving in this process or another that shall succeed.
void discardUnfinished(const std::string &dir, std::uint32_t island);

/// Writes rank `rank`'s shard into the generation's folder (made when missing)
/// and its part of the manifest beside it. A rank that owns nothing calls it
/// with no tensors.
void writeShard(const std::string &folder, std::uint64_t rank,
                const std::vector<SavedTensor> &tensors);

/// Joins the parts of all `ranks`, writes the manifest and removes all but the
/// two newest generations. Called by one rank when all shards are there.
void writeManifest(const std::string &folder, std::uint64_t ranks,
                   const CheckpointInfo &info);

/// Must be called by one rank before shards are written where a generation of
/// the same step may stand: without its manifest it no longer counts.
void discardManifest(const std::string &folder);

class Checkpoint {
public:
  /// Opens the generation in `folder`. Throws Error when the manifest is
  /// missing or damaged.
  explicit Checkpoint(const std::string &folder);
  ~Checkpoint();

  const CheckpointInfo &info() const { return header; }
  bool has(const std::string &name) const { return tensors.count(name) > 0; }
  const std::vector<std::uint64_t> &dims(const std::string &name) const;

  /// Reads everything and checks it against its checksums. Throws Error that
  /// names what is damaged or missing.
  void check() const;

  /// Reads the elements `parameter` holds locally of tensor `name` from
  /// whichever shards have them: `put(localElement, values)`. Throws Error when
  /// elements are missing, the whole has another shape, or bytes are damaged.
  void read(const std::string &name, const LocalParameter &parameter,
            const std::function<void(std::uint64_t, std::span<const float>)>
                &put) const;

private:
  struct Part {
    std::string file;
    std::uint64_t offset = 0;
    std::uint64_t elements = 0;
    std::string sha256; // 32 bytes
    std::vector<plan::v1::Slice> ranges;
    mutable bool verified = false;
  };
  struct Tensor {
    std::vector<std::uint64_t> dims;
    std::vector<Part> parts;
  };
  const InputFile &open(const std::string &file) const;
  void verify(const std::string &name, const Part &part) const;
  void checkDisjoint(const std::string &place) const;

  std::string folder;
  CheckpointInfo header;
  std::map<std::string, Tensor> tensors;
  /// By shard: how long its header is, and SHA-256 of it.
  std::map<std::string, std::pair<std::uint64_t, std::string>> headers;
  mutable std::map<std::string, std::unique_ptr<InputFile>> files;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_CHECKPOINT_H
