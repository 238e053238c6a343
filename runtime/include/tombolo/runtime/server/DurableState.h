//===- DurableState.h - the server's state behind a log ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// OuterState whose every change stands in a log before anybody is told of it
// (docs/Server.md, Durability). A server that comes back replays the log into
// the same state machine and checks that it comes to the same versions, to the
// bit.
//
// Changes are appended to the log as they are made. They are durable when
// `sync` of a mark taken after them has returned; nothing that rests on them may
// be told before. A version is logged with `logVersion`, synced, and then
// published.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_DURABLESTATE_H
#define TOMBOLO_RUNTIME_SERVER_DURABLESTATE_H

#include "tombolo/runtime/plan/Contract.h"
#include "tombolo/runtime/server/OuterState.h"
#include "tombolo/runtime/server/Storage.h"

#include <functional>

namespace google::protobuf {
class MessageLite;
} // namespace google::protobuf

namespace tombolo::server::v1 {
class LogTold;
class SnapshotHeader;
} // namespace tombolo::server::v1

namespace tombolo::runtime {

class RecordWriter;
class Replay;
struct FragmentImage;
struct Record;
enum class RecordType : std::uint64_t;

struct DurableOptions {
  /// What was kept under another one is refused.
  Contract contract;
  /// What was kept of another run goes on with all islands started anew.
  std::string runId;
  /// A snapshot is due when the log has grown by so many bytes since the last
  /// one; at least by twice the state in any case. 0: by any.
  std::uint64_t snapshotBytes = std::uint64_t(16) << 20;
  /// Told of files that were damaged and could be done without.
  std::function<void(const std::string &)> onDamage;
};

class DurableState {
public:
  /// Takes up what `storage` holds, if anything; null: keeps nothing. Throws
  /// Error (status 1) when what it holds is damaged beyond use or another
  /// plan's.
  DurableState(OuterConfig config, DurableOptions options,
               std::shared_ptr<Storage> storage, double now);
  ~DurableState();

  /// What can be asked without changing anything. Another one after `forget`.
  const OuterState &state() const { return *outer; }
  /// Keeps it alive.
  std::shared_ptr<const OuterState> sharedState() const { return outer; }

  // As in OuterState.
  PushResult push(const PushPart &part, std::span<const std::byte> data,
                  double now);
  Receipt receipt(std::uint32_t fragment, std::uint32_t island,
                  std::uint64_t round, std::uint64_t step);
  Receipt join(std::uint32_t fragment, std::uint32_t island,
               std::uint64_t incarnation);
  void stop();
  /// One that `objection` has nothing against.
  void setMembership(const Membership &wanted);
  void publish(const RoundClosing &closing) {
    outer->publish(closing);
    --unpublished;
  }
  // These are nothing that a server that comes back would need.
  void heard(std::uint32_t island, std::uint64_t incarnation, bool left,
             double now) {
    outer->heard(island, incarnation, left, now);
  }
  std::vector<std::shared_ptr<RoundClosing>> tick(double now) {
    return outer->tick(now);
  }
  std::optional<std::string> overdue(std::uint32_t fragment, double now) {
    return outer->overdue(fragment, now);
  }

  /// After `compute`.
  void logVersion(const RoundClosing &closing);

  /// Logs nothing that changes anything: to wait for.
  void logBarrier();

  /// A place in the log.
  struct Mark {
    std::shared_ptr<RecordWriter> log;
    std::uint64_t bytes = 0;
  };
  /// Behind all that has been logged.
  Mark mark() const;
  /// May be called from any thread, beside all others here.
  static void sync(const Mark &mark);

  /// How each fragment's newest version has come to be: whoever listens may
  /// have missed it.
  std::vector<OuterEvent> newestEvents() const;
  /// First versions that were whole and not made yet; once.
  std::vector<std::shared_ptr<RoundClosing>> takeUnfinished();

  bool wantsSnapshot() const;
  /// The state now, and a log that begins with it. Without a file it is put
  /// off, and the old log goes on.
  struct Snapshot {
    std::shared_ptr<RecordWriter> file;
    std::uint64_t number = 0, stopRound = 0;
    Membership members;
    std::vector<FragmentImage> fragments;
    Snapshot();
    Snapshot(Snapshot &&) noexcept;
    ~Snapshot();
  };
  Snapshot beginSnapshot();
  /// Long; beside all other calls but itself.
  void writeSnapshot(const Snapshot &snapshot);

  // A copy elsewhere (Replica.h): the state as of now as records, and all that
  // are logged after it.
  using Copy = std::function<void(RecordType type, std::string head,
                                  std::span<const std::byte> body,
                                  std::shared_ptr<const void> bodyOwner)>;
  /// False for a moment while a version is being made.
  bool canCapture() const;
  void capture(const Copy &to) const;
  /// `body` is valid during the call. Null: nobody.
  void copyLogTo(Copy to) { copy = std::move(to); }
  /// Bytes of memory that the state takes, about.
  std::uint64_t bytes() const { return stateBytes; }

  // The other end. First `forget`, then `store` for all records.
  void forget();
  /// Durable after `sync` of a mark taken then.
  void store(const Record &record, double now);
  /// After `store`.
  void apply(const Record &record, double now);
  /// From here on decisions are made here.
  void takeOver(double now, const std::map<std::uint32_t, double> &overheard) {
    outer->takeOver(now, overheard);
  }
  void gone(std::uint32_t island, std::uint64_t incarnation) {
    outer->gone(island, incarnation);
  }

private:
  void recover(double now);
  server::v1::SnapshotHeader snapshotHeader(std::uint64_t number,
                                            std::uint64_t stopRound,
                                            const Membership &members) const;
  void beginLog(std::unique_ptr<Storage::Writer> file, std::uint64_t number,
                std::uint64_t previousBytes);
  void append(RecordType type, const google::protobuf::MessageLite &head,
              std::span<const std::byte> body = {});
  Receipt logTold(const Receipt &receipt, std::uint32_t fragment,
                  std::uint32_t island, server::v1::LogTold asked);

  OuterConfig config;
  DurableOptions options;
  std::shared_ptr<Storage> storage; // null: nothing is kept
  std::unique_ptr<Replay> replay;
  std::shared_ptr<OuterState> outer;      // in `replay`
  std::shared_ptr<RecordWriter> log;      // null likewise, and after `forget`
  std::unique_ptr<RecordWriter> arriving; // a snapshot that is being stored
  Copy copy;
  std::size_t unpublished = 0; // versions that are logged
  bool putsOff = false; // the newest snapshot that was due could not be begun
  std::uint64_t logNumber = 0;
  std::uint64_t earlierBytes = 0; // of logs since the last snapshot, but this
  std::uint64_t stateBytes = 0;   // a snapshot's, about
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_DURABLESTATE_H
