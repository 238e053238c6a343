//===- Replica.h - one server of a primary and its backup -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which server is primary, what its backup has, and what may be told: the part
// "Primary and backup" of docs/Server.md as a state machine without sockets,
// threads or a clock. Messages go in (`receive`) and out (`next`); they may be
// lost, come twice or late.
//
// A server that is alone (`votes` of one) is primary from the start.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_REPLICA_H
#define TOMBOLO_LIB_SERVER_REPLICA_H

#include "RecordStream.h"
#include "Voter.h"

#include "tombolo/runtime/server/DurableState.h"

#include <deque>
#include <mutex>
#include <set>

namespace tombolo::runtime {

struct ReplicaOptions {
  std::uint32_t self = 0;
  /// By server; of several the first two keep the state. More than half of all
  /// votes decide.
  std::vector<std::uint32_t> votes = {1};
  /// Who has not been heard of for so long is lost.
  double suspectSeconds = 3;
  /// How often the primary is heard of.
  double beatSeconds = 0.5;
  /// How long an epoch is asked for; how often each is asked again.
  double campaignSeconds = 2, askSeconds = 0.5;
  /// Of what was sent and not received, after which it is sent again.
  double resendSeconds = 2;
  /// What a backup that is away may miss and still go on where it was; at
  /// least twice the state.
  std::uint64_t heldBytes = std::uint64_t(64) << 20;
  /// Called by `work`, with the lock, when the primary waits for an answer.
  std::function<void()> onStored;

  /// Sets `suspectSeconds`, and all other times in proportion.
  void detectWithin(double seconds) {
    for (double *other :
         {&beatSeconds, &campaignSeconds, &askSeconds, &resendSeconds})
      *other *= seconds / suspectSeconds;
    suspectSeconds = seconds;
  }
};

class Replica {
public:
  /// `storage` is needed by more than one server. Throws Error when what it
  /// holds is damaged beyond use or another plan's.
  Replica(const OuterConfig &config, DurableOptions durable,
          ReplicaOptions options, std::shared_ptr<Storage> storage, double now);
  ~Replica();

  /// Requests are for this server.
  bool serves(double now) const;
  /// Of the newest grant that it knows, if it was granted.
  std::uint64_t epoch() const { return grant.epoch(); }
  const server::v1::Grant &newest() const { return grant; }
  bool isPrimary() const { return role == Role::Primary; }
  /// For an epoch.
  bool isAsking() const { return asking.has_value(); }
  /// Changes whenever this server becomes primary or is it no more: nothing
  /// that was decided before has a meaning then.
  std::uint64_t term() const { return terms; }
  /// Of a server that keeps it. Only the primary's is to be used.
  DurableState &state() { return *durable; }
  const DurableState &state() const { return *durable; }

  /// Behind all that has been logged.
  struct Mark {
    DurableState::Mark log; ///< to sync first
    std::uint64_t term = 0, sequence = 0;
  };
  Mark mark() const;
  enum class Told { Yes, NotYet, Never };
  /// Whether what a mark stands for is on all disks that it has to be on, its
  /// own aside. Never: another server decides.
  Told mayTell(const Mark &mark) const;

  /// An island has said that it is there, whoever is primary: how long it has
  /// been silent does not begin anew when the primary is lost along with it.
  void overhear(std::uint32_t island, double now) { overheard[island] = now; }

  /// Of a primary: the job is finished, and the others may go too.
  void setOver() { over = true; }
  /// This server has said so, or was told.
  bool isOver() const { return over; }

  void receive(const server::v1::PeerMessage &message, double now);
  /// What is to be sent to another server now, if anything. To be asked again
  /// at once after a message, and every now and then.
  std::optional<server::v1::PeerMessage> next(std::uint32_t peer, double now);
  void tick(double now);

  /// Stores and applies what has come from the primary. Releases the lock,
  /// which guards this object, meanwhile; `receive`, `next` and `tick` may be
  /// called then. False: there was nothing.
  bool work(std::unique_lock<std::mutex> &lock, double now);
  bool hasWork() const {
    return role == Role::Backup && !working &&
           (!arriving.waiting.empty() || arriving.begins);
  }

private:
  enum class Role { Backup, Primary };

  /// Asking for an epoch.
  struct Campaign {
    server::v1::Grant wanted;
    bool accepting = false;
    std::set<std::uint32_t> answered; ///< with yes, in this phase
    server::v1::Grant newest;         ///< that they have accepted
    std::map<std::uint32_t, double> asked;
    double end = 0;
  };
  /// What the other replica has, as the primary knows it.
  struct Link {
    std::uint64_t starts = 0; ///< 0: not heard of
    std::unique_ptr<RecordStream> stream;
    std::uint64_t snapshotBytes = 0;      ///< of the stream, at its begin
    std::uint64_t sent = 0, received = 0; ///< bytes of the stream
    double answerSeconds = 0;             ///< when it last answered
    double progressSeconds = 0;
    double sendSeconds = 0;
    /// It is asked to be a member: what is told waits for it already. It has
    /// all that was told before when it has stored this.
    bool joins = false;
    std::uint64_t joinSequence = 0;
  };
  /// What comes from a primary.
  struct Arriving {
    struct Waiting {
      Record record;
      std::uint64_t end = 0; ///< in the stream
    };
    explicit Arriving(std::uint64_t most) : assembler(most) {}
    std::uint64_t stream = 0;
    bool begins = false; ///< what is here has to be forgotten first
    bool broken = false; ///< what has come are no records
    RecordAssembler assembler;
    std::deque<Waiting> waiting; ///< not stored yet
    std::uint64_t assembled = 0, received = 0, stored = 0;
  };

  bool isAlone() const { return options.votes.size() == 1; }
  bool keepsState() const { return options.self < 2; }
  std::uint32_t other() const { return 1 - options.self; }
  bool names(const server::v1::Grant &grant) const;
  /// What is told waits for the other replica.
  bool needsBackup() const { return grant.backup() || link.joins; }
  bool isMissed(double now) const;

  /// The newest grant that this server has accepted or learned of.
  const server::v1::Grant &newestGrant() const;
  bool isDue(double now) const;

  void campaign(bool withBackup, bool first, double now);
  bool isEnough() const;
  void advance(double now);
  void giveUp(double now);
  void won(double now);
  void become(Role newRole, double now);
  void learn(const server::v1::Grant &newer, double now);
  void attach(double now);
  void dropStream();

  void onPrepare(const server::v1::PeerMessage &message);
  void onPromise(const server::v1::PeerMessage &message, double now);
  void onAccept(const server::v1::PeerMessage &message);
  void onAccepted(const server::v1::PeerMessage &message, double now);
  void onAppend(const server::v1::PeerMessage &message, double now);
  void onAck(const server::v1::PeerMessage &message, double now);
  server::v1::PeerMessage messageOf(std::uint64_t epoch) const;
  void reply(std::uint32_t peer, server::v1::PeerMessage message);
  std::optional<server::v1::PeerMessage> question(std::uint32_t peer,
                                                  double now);
  std::optional<server::v1::PeerMessage> appendMessage(double now);
  server::v1::PeerMessage ackMessage();

  const ReplicaOptions options;
  std::uint64_t mostHeld = 0;
  std::shared_ptr<Storage> storage;
  std::unique_ptr<Voter> voter; // null: alone
  std::unique_ptr<DurableState> durable;

  Role role = Role::Backup;
  std::uint64_t terms = 0;
  server::v1::Grant grant;      // the newest that is known to be valid
  std::uint64_t newestSeen = 0; // of epochs, by whomever
  std::optional<Campaign> asking;
  double nextTry = 0;
  double refusedSeconds = 0; // until the next try, where no grant names it
  double tickSeconds = 0;
  double heardSeconds = 0;                   // of the primary
  std::map<std::uint32_t, double> overheard; // when, by island
  std::uint64_t sequence = 0; // of records logged
  Link link;
  Arriving arriving;
  bool working = false;
  bool owesAck = false;
  bool lostVote = false; // it may not found a run again
  std::uint64_t lastStream = 0;
  std::map<std::uint32_t, std::deque<server::v1::PeerMessage>> replies;
  bool over = false;
  std::map<std::uint32_t, double> toldOver; ///< when, by peer
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_REPLICA_H
