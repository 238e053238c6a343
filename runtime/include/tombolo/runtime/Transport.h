//===- Transport.h - the seam to communication ----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Ranks of one island talk through a Transport. It makes communicators, each
// over a list of ranks. Every implementation passes the conformance suite in
// runtime/test/transport.
//
// Contract:
// * `connect` is collective over its ranks (MPI_Comm_create_group,
//   ncclCommInitRank): all of them call it with the same name and list, and
//   names are used once. To connect several without a deadlock, all ranks go
//   through the communicators they are in in one common order.
// * Transfers block until the buffer may be used again. A send may return
//   before its receive has started, or wait for it (MPI_Send): programs must
//   not depend on either. Messages of one sender, receiver and tag arrive in
//   order; different tags never overtake into each other's receives. Both
//   sides state the same size. A size of 0 is a message like any other.
// * Different threads may use one communicator at the same time with different
//   tags. Collectives use a tag of their own; one at a time.
// * Every wait has the transport's timeout. A wait that times out, a peer that
//   has died and `abort` all throw PeerError; the communicator is then
//   unusable. Whoever dies is noticed by those who wait for it, and those who
//   wait for them notice when they abort in turn: an island ends within
//   seconds, it never hangs.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TRANSPORT_H
#define TOMBOLO_RUNTIME_TRANSPORT_H

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/StoreServer.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// Another rank is lost, silent, or the island has been given up: an echo, not
/// the cause.
class PeerError : public Error {
public:
  template <typename... Parts>
  explicit PeerError(const Parts &...parts)
      : Error(Status::Failed, "", parts...) {}
};

/// What elements are summed as. BF16 is added in f32 and rounded to nearest
/// even at each member.
enum class SumType { F32, BF16 };

class Communicator {
public:
  virtual ~Communicator();
  Communicator(const Communicator &) = delete;
  Communicator &operator=(const Communicator &) = delete;

  /// Position in the list given to `connect`; all peers are such positions.
  int rank() const { return self; }
  int size() const { return members; }

  static constexpr std::uint32_t kMaxTag = 0xffff;

  /// MPI_Send / ncclSend.
  virtual void send(int to, std::uint32_t tag,
                    std::span<const std::byte> data) = 0;
  /// MPI_Recv / ncclRecv.
  virtual void receive(int from, std::uint32_t tag,
                       std::span<std::byte> data) = 0;
  /// Both at once, so that a ring cannot deadlock (MPI_Sendrecv).
  virtual void sendReceive(int to, std::span<const std::byte> out, int from,
                           std::span<std::byte> in, std::uint32_t tag) = 0;

  // Collectives work in place and use at most 1 MiB of scratch (16 MiB between
  // sites, where so much is on its way). The order of
  // additions depends on position only, so repeated runs agree to the bit: sums
  // are this class's rings whatever the transport, while one that only moves
  // data may be the transport's own. All but the first take as many equal parts
  // as there are members; part i is that of member i.

  /// data := sum over all members, the same bits on every member
  /// (MPI_Allreduce, ncclAllReduce). A ring.
  void allReduceSum(std::span<std::byte> data, SumType type);
  void allReduceSum(std::span<float> data) {
    allReduceSum(std::as_writable_bytes(data), SumType::F32);
  }

  /// This member's part := sum over all members of that part; the other parts
  /// are undefined afterwards (MPI_Reduce_scatter_block, ncclReduceScatter). A
  /// ring; with `allGather` behind it the bits of `allReduceSum`.
  void reduceScatterSum(std::span<std::byte> data, SumType type);

  /// Every part comes from its member to all (MPI_Allgather, ncclAllGather). A
  /// ring.
  virtual void allGather(std::span<std::byte> data);

  /// Part j of member i becomes part i of member j (MPI_Alltoall). Pairwise.
  virtual void allToAll(std::span<std::byte> data);

  /// Returns when all members have come (MPI_Barrier).
  virtual void barrier();

protected:
  Communicator(int self, int members) : self(self), members(members) {}

  /// What a member does in one step of a ring: `out` goes to the next member
  /// while `in` comes from the one before, or is what comes is added to. All
  /// members cut both into as many pieces, so that what one sends the next
  /// expects; shorter parts have empty pieces.
  struct RingStep {
    std::span<std::byte> out, in;
    std::size_t longest; ///< bytes, of any member's part
    const SumType *add;  ///< null: what comes takes the place of `in`

    static constexpr std::size_t kPiece = 1 << 20; // bytes
    std::size_t pieces() const { return (longest + kPiece - 1) / kPiece; }
    static std::span<std::byte> piece(std::span<std::byte> part,
                                      std::size_t index);
    /// Adds what has come for a piece.
    void take(std::size_t index, std::span<const std::byte> got) const;
  };
  static constexpr std::uint32_t kRingTag = kMaxTag;
  int next() const { return (self + 1) % members; }
  int previous() const { return (self + members - 1) % members; }
  /// As many bytes that stay the communicator's, of the one collective that
  /// goes on.
  std::span<std::byte> scratch(std::size_t bytes);
  /// Piece by piece, each when the one before has come.
  virtual void ringStep(const RingStep &step);

private:
  using Part = std::span<std::byte>;
  Part equalPart(Part data, int member) const;

  int self;
  int members;
  std::vector<std::byte> scratchBytes;
};

class Transport {
public:
  virtual ~Transport();

  /// A communicator over `ranks` (of the island, ascending, with this one).
  virtual std::unique_ptr<Communicator>
  connect(const std::string &name, std::span<const std::uint64_t> ranks) = 0;

  /// Wakes every wait of this rank with PeerError, and lets peers notice. May
  /// be called from any thread, more than once (ncclCommAbort).
  virtual void abort(const std::string &why) noexcept = 0;
};

struct TransportOptions {
  std::chrono::milliseconds timeout{std::chrono::minutes(10)};
  std::chrono::milliseconds connectTimeout{std::chrono::minutes(2)};
  /// Stands before every name in the store, so that islands, and the
  /// incarnations of one island, share a store without meeting.
  std::string scope;
  /// Of a store where several sites meet.
  std::optional<StoreKeeper> keeper;
};

/// Threads of one process, for tests and single-process runs.
class InprocHub {
public:
  explicit InprocHub(std::uint64_t ranks, TransportOptions options = {});
  ~InprocHub();
  /// The transport of one rank; the hub must outlive it.
  std::unique_ptr<Transport> transport(std::uint64_t rank);

  struct State;

private:
  std::shared_ptr<State> state;
};

/// Gloo over TCP. `store` is the address of a StoreServer; `host` the address
/// peers reach this rank at.
std::unique_ptr<Transport> createGlooTransport(std::uint64_t rank,
                                               const std::string &store,
                                               const std::string &host,
                                               TransportOptions options = {});

/// What the ranks of an island at several sites know of one another.
struct SiteLinks {
  TlsFiles tls;
  std::vector<std::string> sites; ///< of each rank of the island
  /// Who was turned away, and why; from a thread of the transport.
  std::function<void(const std::string &message)> refused;
};

/// Ranks of one site talk over Gloo, those of several over TLS, where each
/// knows the other by the certificate of its site. Strangers are turned away.
std::unique_ptr<Transport> createSiteTransport(std::uint64_t rank,
                                               const std::string &store,
                                               const std::string &host,
                                               SiteLinks links,
                                               TransportOptions options = {});

/// MPI, whose launcher has started this process; rank r of the island is as
/// many processes from this one as r is from `rank`. At most once in a process.
/// The library is loaded now: Error (status 2) where Tombolo was built without.
std::unique_ptr<Transport> createMpiTransport(std::uint64_t rank,
                                              TransportOptions options = {});

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_TRANSPORT_H
