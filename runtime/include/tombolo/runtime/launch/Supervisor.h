//===- Supervisor.h - processes that never stay behind ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Starts child processes, hears their events and notices their end. Children
// die with the process that started them, however it dies: the kernel sends
// them SIGKILL (PR_SET_PDEATHSIG), and what they have started goes the same
// way.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LAUNCH_SUPERVISOR_H
#define TOMBOLO_RUNTIME_LAUNCH_SUPERVISOR_H

#include <csignal>
#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace tombolo::runtime {

struct ProcessSpec {
  std::string program;                ///< path
  std::vector<std::string> arguments; ///< without argv[0]
  /// Makes the process lead a group of its own, which is killed as a whole, and
  /// which a Ctrl-C at the terminal does not reach.
  bool ownGroup = false;
};

/// How a process ended.
struct ProcessEnd {
  bool signalled = false;
  int code = 0; ///< the signal, or the exit status
};

/// "was killed by signal 9 (Killed)" or "ended with status 3".
std::string describe(ProcessEnd end);

struct SupervisorEvent {
  enum class Kind {
    Line,    ///< a process wrote `line` (without its end) to its events fd
    Ended,   ///< a process has ended; all its lines have come before
    Signal,  ///< this process was told to end: SIGINT, SIGTERM or SIGHUP
    Timeout, ///< nothing else came in time
  };
  Kind kind = Kind::Timeout;
  std::size_t process = 0;
  std::string line;
  ProcessEnd end;
  int signal = 0;
};

/// One per process, made in its main thread before any other thread starts:
/// it takes SIGINT, SIGTERM, SIGHUP and SIGCHLD for itself.
class Supervisor {
public:
  Supervisor();
  /// Kills and reaps what still runs.
  ~Supervisor();
  Supervisor(const Supervisor &) = delete;
  Supervisor &operator=(const Supervisor &) = delete;

  /// Starts a process, with `--events-fd N` behind its arguments, and returns
  /// its number (0, 1, ...). Throws Error when the program cannot be run.
  std::size_t start(const ProcessSpec &spec);

  pid_t pid(std::size_t process) const { return processes[process].pid; }
  bool running(std::size_t process) const { return processes[process].alive; }
  bool anyRunning() const;

  /// The next event; at most `seconds` later (none: whenever it comes).
  SupervisorEvent next(std::optional<double> seconds);

  void kill(std::size_t process, int signal);
  /// SIGKILL to all, and to their groups; returns when all are gone.
  void killAll();

private:
  struct Process {
    pid_t pid = -1;
    bool ownGroup = false;
    bool alive = false;
    int events = -1;    // read end
    std::string buffer; // of an incomplete line
    bool overlong = false;
  };
  void drain(std::size_t process);
  void reap();
  void readSignals();

  std::vector<Process> processes;
  std::deque<SupervisorEvent> pending;
  sigset_t oldMask;
  int signals = -1; // signalfd
};

/// Writes whole lines to a file descriptor. Reports, never throws: the reader
/// may have gone.
class EventWriter {
public:
  explicit EventWriter(int fd) : fd(fd) {}
  /// False when the line could not be written; `errno` says why.
  bool write(std::string_view line);

private:
  int fd;
};

/// A folder for the time of a run. A small process of its own waits for this
/// one to end and removes the folder even when this one is killed.
class TemporaryFolder {
public:
  /// Makes PREFIX followed by six letters. Call before threads start.
  explicit TemporaryFolder(const std::string &prefix);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder &) = delete;
  TemporaryFolder &operator=(const TemporaryFolder &) = delete;

  const std::string &path() const { return folder; }

private:
  std::string folder;
  pid_t keeper = -1;
  int lifeline = -1; // closed by the kernel when this process ends
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_LAUNCH_SUPERVISOR_H
