//===- KubernetesJob.cpp - a site's job as manifests of Kubernetes --------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SiteJob.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>

using namespace tombolo::runtime;
using json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

/// Where process 0 of a pod's site listens for the others.
constexpr int kMeetingPort = 7100;

std::string base64(const std::string &data) {
  const char *digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < data.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j)
      bits =
          bits << 8 |
          (i + j < data.size() ? static_cast<unsigned char>(data[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j)
      text += i + j > data.size() ? '=' : digits[bits >> (18 - 6 * j) & 63];
  }
  return text;
}

} // namespace

std::vector<JobFile>
tombolo::runtime::writeKubernetesJob(const SiteJob &job,
                                     const JobContext &context) {
  const JobFileOptions &options = context.options;
  if (options.image.empty())
    throw Error(Status::Usage, "--image: expected the container image that has "
                               "tombolo-run");
  if (job.name.size() > 52) // with "-" and an index at most 63
    throw Error("the name '", job.name,
                "' is too long for a job of Kubernetes: expected at most 52 "
                "characters; give a shorter --run-id");
  json labels = {{"app.kubernetes.io/name", "tombolo"},
                 {"tombolo/job", job.name}};
  auto metadata = [&](const std::string &name) {
    return json{{"name", name}, {"labels", labels}};
  };
  json items = json::array();
  json volumes = json::array(), mounts = json::array();
  std::vector<JobFile> files;
  if (!context.run.certificates.empty()) {
    json data;
    std::vector<std::string> names = {"ca.crt"};
    std::vector<std::string> owners;
    if (job.ranks > 0)
      owners.push_back(job.site);
    if (!job.server.empty())
      owners.push_back("server");
    for (const std::string &owner : owners)
      for (const char *end : {".crt", ".key"})
        names.push_back(owner + end);
    for (const std::string &name : names)
      data[name] =
          base64(readFile((fs::path(context.run.certificates) / name).string(),
                          std::uint64_t{1} << 20));
    json secret = {{"apiVersion", "v1"},
                   {"kind", "Secret"},
                   {"metadata", metadata(job.name + "-certs")},
                   {"type", "Opaque"},
                   {"data", data}};
    files.push_back({job.name + "-certs.json", secret.dump(2) + "\n", 0600});
    volumes.push_back(
        {{"name", "certs"},
         {"secret",
          {{"secretName", job.name + "-certs"}, {"defaultMode", 0440}}}});
    mounts.push_back(
        {{"name", "certs"}, {"mountPath", "/certs"}, {"readOnly", true}});
  }
  if (!options.volume.empty()) {
    std::size_t equals = options.volume.find('=');
    if (equals == std::string::npos || equals == 0 ||
        options.volume.compare(equals, 2, "=/") != 0)
      throw Error(Status::Usage, "--volume: expected CLAIM=/PATH, got '",
                  options.volume, "'");
    volumes.push_back({{"name", "data"},
                       {"persistentVolumeClaim",
                        {{"claimName", options.volume.substr(0, equals)}}}});
    mounts.push_back(
        {{"name", "data"}, {"mountPath", options.volume.substr(equals + 1)}});
  }
  // Names of the pods, before they are ready: they have to meet to become so.
  items.push_back({{"apiVersion", "v1"},
                   {"kind", "Service"},
                   {"metadata", metadata(job.name)},
                   {"spec",
                    {{"clusterIP", "None"},
                     {"publishNotReadyAddresses", true},
                     {"selector", {{"tombolo/job", job.name}}}}}});
  if (!job.server.empty()) {
    int port = std::atoi(job.server.substr(job.server.rfind(':') + 1).c_str());
    items.push_back(
        {{"apiVersion", "v1"},
         {"kind", "Service"},
         {"metadata", metadata(job.name + "-server")},
         {"spec",
          {{"type", "LoadBalancer"},
           {"publishNotReadyAddresses", true},
           {"selector",
            {{"tombolo/job", job.name},
             {"batch.kubernetes.io/job-completion-index", "0"}}},
           {"ports",
            {{{"name", "grpc"}, {"port", port}, {"targetPort", port}}}}}}});
  }
  json arguments = json::array();
  for (const std::string &word : job.words)
    arguments.push_back(word);
  json container = {{"name", "tombolo"},
                    {"image", options.image},
                    {"command", {"tombolo-run"}},
                    {"args", arguments},
                    {"env",
                     {{{"name", "TOMBOLO_PROCESSES"},
                       {"value", std::to_string(job.processes)}},
                      {{"name", "TOMBOLO_MEETING"},
                       {"value", job.name + "-0." + job.name + ":" +
                                     std::to_string(kMeetingPort)}}}},
                    {"volumeMounts", mounts}};
  json resources;
  for (const std::string &option : options.options) {
    std::size_t equals = option.find('=');
    if (equals == std::string::npos || equals == 0 ||
        equals + 1 == option.size())
      throw Error(Status::Usage,
                  "--job-option: expected NAME=QUANTITY of a "
                  "resource of each pod, got '",
                  option, "'");
    resources[option.substr(0, equals)] = option.substr(equals + 1);
  }
  if (!resources.is_null())
    container["resources"] = {{"requests", resources}, {"limits", resources}};
  // Each pod that fails counts, and all fail together. Wrong usage is never
  // tried again; other wrong input may be that of a pod that came while those
  // before it were still going.
  // The empty list: up to release 1.27 the schema wants one.
  json spec = {{"completionMode", "Indexed"},
               {"completions", job.processes},
               {"parallelism", job.processes},
               {"backoffLimit", context.run.restarts * job.processes},
               {"podFailurePolicy",
                {{"rules",
                  {{{"action", "FailJob"},
                    {"onExitCodes",
                     {{"containerName", "tombolo"},
                      {"operator", "In"},
                      {"values", {2}}}},
                    {"onPodConditions", json::array()}},
                   {{"action", "Ignore"},
                    {"onPodConditions",
                     {{{"type", "DisruptionTarget"}, {"status", "True"}}}}}}}}},
               {"template",
                {{"metadata", {{"labels", labels}}},
                 {"spec",
                  {{"subdomain", job.name},
                   {"restartPolicy", "Never"},
                   {"containers", {container}},
                   {"volumes", volumes}}}}}};
  items.push_back({{"apiVersion", "batch/v1"},
                   {"kind", "Job"},
                   {"metadata", metadata(job.name)},
                   {"spec", spec}});
  json list = {{"apiVersion", "v1"}, {"kind", "List"}, {"items", items}};
  files.push_back({job.name + ".json", list.dump(2) + "\n", 0644});
  return files;
}
