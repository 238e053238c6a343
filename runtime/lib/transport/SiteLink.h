//===- SiteLink.h - one rank's connection to another ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Messages with tags over one TLS connection. A message is sent only when its
// receiver waits for it and has said so: it is then read where it belongs, and
// messages of other tags never stand behind one that nobody takes. Whoever
// knows what comes next says so beforehand, and saves the way there.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TRANSPORT_SITELINK_H
#define TOMBOLO_LIB_TRANSPORT_SITELINK_H

#include "Sockets.h"

#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace tombolo::runtime {

class SiteLink {
public:
  explicit SiteLink(std::unique_ptr<TlsStream> stream)
      : stream(std::move(stream)) {}

  /// Waits until the other side waits for it, too.
  void send(std::uint32_t tag, std::span<const std::byte> data,
            Deadline deadline);

  /// Of one tag, so many messages may be waited for.
  static constexpr std::size_t kMostAhead = 64;

  /// A wait for one message; those of one tag come in the order of their
  /// receipts.
  class Receipt {
  public:
    /// Tells the other side.
    Receipt(SiteLink &link, std::uint32_t tag, std::span<std::byte> data,
            Deadline deadline);
    ~Receipt();
    Receipt(const Receipt &) = delete;
    Receipt &operator=(const Receipt &) = delete;
    void wait(Deadline deadline);

  private:
    friend class SiteLink;
    void forget();

    SiteLink &link;
    std::uint32_t tag;
    std::span<std::byte> data;
    std::size_t filled = 0;
    bool isWhole = false;
  };

  /// Takes what has come, without waiting: of one thread. False when nothing
  /// more will: the other side has left, or `lost` says why it is lost.
  bool take(std::string &lost);

  /// Ends every wait.
  void giveUp(const std::string &why) noexcept;
  /// Says that this side goes.
  void sayFarewell() noexcept;
  int descriptor() const { return stream->descriptor(); }

private:
  enum class Kind : std::uint8_t { Ready = 1, Data = 2, Farewell = 3 };
  static constexpr std::size_t kHead = 13;
  struct Head {
    Kind kind;
    std::uint32_t tag;
    std::uint64_t bytes;
  };

  void write(Head head, std::span<const std::byte> data, Deadline deadline);
  template <typename Condition>
  void await(std::unique_lock<std::mutex> &lock, Deadline deadline,
             Condition condition);
  bool begin(const Head &head, std::string &lost);
  Receipt *firstOpen(std::uint32_t tag);
  TlsStream::Progress takeData();

  std::unique_ptr<TlsStream> stream;
  std::mutex writing;

  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::uint32_t, std::deque<std::uint64_t>> wanted; // its bytes
  std::map<std::uint32_t, std::deque<Receipt *>> receipts;
  Receipt *filling = nullptr; // what is under way belongs to; null: nobody
  std::string over; // why no message comes or goes any more

  // Of the thread that takes.
  std::array<std::byte, kHead> head;
  std::size_t headBytes = 0;
  std::uint64_t dataBytes = 0; // that are still to come
  bool hasLeft = false;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_TRANSPORT_SITELINK_H
