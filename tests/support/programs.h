// Where the build put the programs that tests start, and where their data lies.
#pragma once

namespace bdh::test {

extern const char* const kCommand;       // bdh
extern const char* const kBenchCommand;  // bdh-bench
extern const char* const kExample;       // tools/examples/load_model.cpp
extern const char* const kTrainExample;  // tools/examples/train.cpp
extern const char* const kCProgram;      // tools/examples/generate.c
extern const char* const kTestData;      // tests/data

}  // namespace bdh::test
