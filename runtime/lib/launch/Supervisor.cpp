//===- Supervisor.cpp - processes that never stay behind ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/launch/Supervisor.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

/// A process that writes longer lines is not one of ours.
constexpr std::size_t kLongestLine = 1 << 16;

[[noreturn]] void failSystem(const char *what) {
  throw Error(Status::Failed, what, ": ", std::strerror(errno));
}

} // namespace

std::string tombolo::runtime::describe(ProcessEnd end) {
  if (!end.signalled)
    return "ended with status " + std::to_string(end.code);
  const char *text = strsignal(end.code);
  return "was killed by signal " + std::to_string(end.code) + " (" +
         (text ? text : "unknown") + ")";
}

Supervisor::Supervisor() {
  sigset_t mask;
  sigemptyset(&mask);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD})
    sigaddset(&mask, signal);
  if (sigprocmask(SIG_BLOCK, &mask, &oldMask) != 0)
    failSystem("cannot block signals");
  signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0)
    failSystem("cannot watch signals");
  // A reader that has gone is an error of write, not the end.
  std::signal(SIGPIPE, SIG_IGN);
}

Supervisor::~Supervisor() {
  killAll();
  for (Process &process : processes)
    if (process.events >= 0)
      close(process.events);
  close(signals);
  sigprocmask(SIG_SETMASK, &oldMask, nullptr);
}

std::size_t Supervisor::start(const ProcessSpec &spec) {
  int events[2], failure[2];
  if (pipe2(events, O_CLOEXEC) != 0)
    failSystem("cannot make a pipe");
  if (pipe2(failure, O_CLOEXEC) != 0) {
    close(events[0]);
    close(events[1]);
    failSystem("cannot make a pipe");
  }
  // All memory before fork: the child may only make system calls.
  std::vector<std::string> words = {spec.program};
  words.insert(words.end(), spec.arguments.begin(), spec.arguments.end());
  words.push_back("--events-fd");
  words.push_back(std::to_string(events[1]));
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);

  pid_t parent = getpid();
  pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) // it died before the line above
      _exit(127);
    if (spec.ownGroup)
      setpgid(0, 0);
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0)
      dup2(null, 0);
    // What libraries have opened without a thought for children is not theirs.
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    fcntl(events[1], F_SETFD, 0);
    ::signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &oldMask, nullptr);
    execv(spec.program.c_str(), argv.data());
    int error = errno;
    [[maybe_unused]] ssize_t n = write(failure[1], &error, sizeof error);
    _exit(127);
  }
  int forkError = errno;
  close(events[1]);
  close(failure[1]);
  int error = 0;
  if (child < 0) {
    close(events[0]);
    close(failure[0]);
    errno = forkError;
    failSystem("cannot start a process");
  }
  if (spec.ownGroup)
    setpgid(child, child); // whichever of the two comes first
  ssize_t got;
  do
    got = read(failure[0], &error, sizeof error);
  while (got < 0 && errno == EINTR);
  close(failure[0]);
  if (got == sizeof error) {
    waitpid(child, nullptr, 0);
    close(events[0]);
    throw Error(Status::Failed, "cannot run '", spec.program,
                "': ", std::strerror(error));
  }
  fcntl(events[0], F_SETFL, O_NONBLOCK);
  Process process;
  process.pid = child;
  process.ownGroup = spec.ownGroup;
  process.alive = true;
  process.events = events[0];
  processes.push_back(std::move(process));
  return processes.size() - 1;
}

bool Supervisor::anyRunning() const {
  return std::any_of(processes.begin(), processes.end(),
                     [](const Process &p) { return p.alive; });
}

void Supervisor::drain(std::size_t index) {
  Process &process = processes[index];
  char bytes[4096];
  while (process.events >= 0) {
    ssize_t got = read(process.events, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && errno == EAGAIN)
      return;
    if (got <= 0) {
      close(process.events);
      process.events = -1;
      return;
    }
    for (ssize_t i = 0; i < got; ++i) {
      if (bytes[i] != '\n') {
        process.overlong |= process.buffer.size() >= kLongestLine;
        if (!process.overlong)
          process.buffer += bytes[i];
        continue;
      }
      if (!process.overlong) {
        SupervisorEvent event;
        event.kind = SupervisorEvent::Kind::Line;
        event.process = index;
        event.line = std::move(process.buffer);
        pending.push_back(std::move(event));
      }
      process.buffer.clear();
      process.overlong = false;
    }
  }
}

void Supervisor::reap() {
  for (std::size_t i = 0; i < processes.size(); ++i) {
    Process &process = processes[i];
    if (!process.alive)
      continue;
    // First look, then kill its group, then reap: while the process is a
    // zombie its number, and that of the group, is nobody else's.
    siginfo_t info{};
    if (waitid(P_PID, process.pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid == 0)
      continue;
    if (process.ownGroup)
      ::kill(-process.pid, SIGKILL);
    int status = 0;
    while (waitpid(process.pid, &status, 0) < 0 && errno == EINTR) {
    }
    process.alive = false;
    drain(i);
    SupervisorEvent event;
    event.kind = SupervisorEvent::Kind::Ended;
    event.process = i;
    event.end.signalled = WIFSIGNALED(status);
    event.end.code =
        event.end.signalled ? WTERMSIG(status) : WEXITSTATUS(status);
    pending.push_back(std::move(event));
  }
}

void Supervisor::readSignals() {
  signalfd_siginfo info;
  while (read(signals, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGCHLD)
      continue; // `reap` looks anyway
    SupervisorEvent event;
    event.kind = SupervisorEvent::Kind::Signal;
    event.signal = static_cast<int>(info.ssi_signo);
    pending.push_back(std::move(event));
  }
}

SupervisorEvent Supervisor::next(std::optional<double> seconds) {
  using Clock = std::chrono::steady_clock;
  auto end = Clock::now() + std::chrono::duration<double>(seconds.value_or(0));
  while (true) {
    if (!pending.empty()) {
      SupervisorEvent event = std::move(pending.front());
      pending.pop_front();
      return event;
    }
    int timeout = -1;
    if (seconds) {
      auto rest = std::chrono::duration<double, std::milli>(end - Clock::now());
      timeout = static_cast<int>(
          std::clamp(std::ceil(rest.count()), 0.0, 1000.0 * 3600));
    }
    std::vector<pollfd> fds = {{signals, POLLIN, 0}};
    for (const Process &process : processes)
      if (process.events >= 0)
        fds.push_back({process.events, POLLIN, 0});
    int ready = poll(fds.data(), fds.size(), timeout);
    if (ready < 0 && errno != EINTR)
      failSystem("cannot wait for events");
    readSignals();
    for (std::size_t i = 0; i < processes.size(); ++i)
      drain(i);
    reap();
    if (pending.empty() && seconds && Clock::now() >= end)
      return {};
  }
}

void Supervisor::kill(std::size_t index, int signal) {
  const Process &process = processes[index];
  if (process.alive)
    ::kill(process.ownGroup ? -process.pid : process.pid, signal);
}

void Supervisor::killAll() {
  for (std::size_t i = 0; i < processes.size(); ++i)
    kill(i, SIGKILL);
  for (Process &process : processes) {
    if (!process.alive)
      continue;
    while (waitpid(process.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    process.alive = false;
  }
}

bool EventWriter::write(std::string_view line) {
  std::string whole(line);
  whole += '\n';
  for (std::size_t done = 0; done < whole.size();) {
    ssize_t n = ::write(fd, whole.data() + done, whole.size() - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}
