// Where the build put the programs that tests start, and where their data lies.
#include "tests/support/programs.h"

namespace bdh::test {

const char* const kCommand = BDH_COMMAND;
const char* const kBenchCommand = BDH_BENCH_COMMAND;
const char* const kExample = BDH_EXAMPLE;
const char* const kTrainExample = BDH_TRAIN_EXAMPLE;
const char* const kCProgram = BDH_C_PROGRAM;
const char* const kTestData = BDH_TEST_DATA;

}  // namespace bdh::test
