// What the GPU and its software are, for the record. Changes no setting.
#pragma once

#include <string>

#include "bdh/base/json.h"

namespace bdh::bench {

struct GpuInfo {
  std::string name;        // "NVIDIA H100 80GB HBM3"
  std::string capability;  // "9.0"
  int multiprocessors = 0;
  double l2 = 0, memory = 0;  // bytes
  std::string driver;         // "580.159.04", or "unknown"
  std::string cuda;           // of the driver, and what this build has: "13.0, built with 13.0"
  std::string clocks;         // now, in MHz: "1980 SM, 2619 memory"; or "unknown"

  std::string text() const;
  Json::Object json() const;
};

/// Call it while the GPU is warm: clocks are those of the moment.
GpuInfo gpu_info(int index);

}  // namespace bdh::bench
