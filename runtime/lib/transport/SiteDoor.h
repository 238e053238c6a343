//===- SiteDoor.h - where ranks of other sites come in ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A rank's listening socket. Whoever comes shows the certificate of a site and
// says which rank it is, of which communicator, and the word that this rank has
// put into the island's store: who cannot is turned away, and nothing else
// notices.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TRANSPORT_SITEDOOR_H
#define TOMBOLO_LIB_TRANSPORT_SITEDOOR_H

#include "Sockets.h"

#include "tombolo/runtime/Transport.h"

#include <condition_variable>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace tombolo::runtime {

class SiteDoor {
public:
  /// `links` must outlive it.
  SiteDoor(std::uint64_t rank, const std::string &host,
           const TlsIdentity &identity, const SiteLinks &links);
  ~SiteDoor();
  SiteDoor(const SiteDoor &) = delete;
  SiteDoor &operator=(const SiteDoor &) = delete;

  /// Where it is and its word, for the island's other ranks.
  std::string invitation() const;

  /// The connection of rank `from` for communicator `name`. Throws PeerError at
  /// the deadline, or when the door is closed.
  std::unique_ptr<TlsStream> await(const std::string &name, std::uint64_t from,
                                   Deadline deadline);
  /// Ends every wait.
  void close(const std::string &why) noexcept;

  /// The other side of `await`: connects to the rank `to` that has given this
  /// invitation.
  static std::unique_ptr<TlsStream>
  knock(const std::string &invitation, std::uint64_t self, std::uint64_t to,
        const std::string &name, const TlsIdentity &identity,
        const SiteLinks &links, Deadline deadline);

private:
  struct Visitor {
    std::unique_ptr<TlsStream> stream;
    Deadline introduction;
    bool hasShaken = false;
    short events = 0; // that its next move waits for
    std::string said;
  };
  void serve();
  void admit();
  bool move(Visitor &visitor);
  bool hear(Visitor &visitor);
  bool refuse(const Visitor &visitor, const std::string &why);

  std::uint64_t rank;
  const TlsIdentity &identity;
  const SiteLinks &links;
  std::string address, word;
  int listener = -1, wake = -1;
  std::list<Visitor> visitors; // of the thread
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<std::string, std::uint64_t>, std::unique_ptr<TlsStream>>
      arrived;
  std::string closed; // why
  std::thread thread;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_TRANSPORT_SITEDOOR_H
