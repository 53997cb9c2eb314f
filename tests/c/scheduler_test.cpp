// The scheduler through the C API: texts as bdh_generate writes them, their ends, and what is refused.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "bdh/bdh_c.h"
#include "tests/support/c_api.h"

using namespace bdh::test;

namespace {

struct SchedulerInC : LoadedInC {
  bdh_scheduler* scheduler = nullptr;

  explicit SchedulerInC(int64_t running = 4, int64_t queued = 16) {
    bdh_scheduler_options options;
    REQUIRE(bdh_scheduler_options_defaults(&options, sizeof options) == BDH_OK);
    options.most_running = running;
    options.most_queued = queued;
    REQUIRE(bdh_scheduler_new(model, &options, &scheduler) == BDH_OK);
  }
  ~SchedulerInC() { bdh_scheduler_free(scheduler); }
  SchedulerInC(const SchedulerInC&) = delete;
  SchedulerInC& operator=(const SchedulerInC&) = delete;

  uint64_t submit(const std::string& prompt, const bdh_generation_options& options,
                  const bdh_session* from = nullptr) const {
    uint64_t id = 0;
    REQUIRE(bdh_scheduler_submit(scheduler, prompt.data(), prompt.size(), from, &options, &id) == BDH_OK);
    return id;
  }
};

}  // namespace

TEST_CASE("C API: a scheduler's texts are those of bdh_generate, and go on from sessions") {
  const SchedulerInC c;
  std::vector<std::string> texts(5);
  std::vector<uint64_t> ids;
  for (size_t i = 0; i < texts.size(); ++i) {
    bdh_generation_options options = options_in_c(c.model, &texts[i]);
    options.max_new_tokens = 20;
    options.seed = i;
    ids.push_back(c.submit("To be", options));
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    bdh_generation_result result;
    bdh_session* left = nullptr;
    REQUIRE(bdh_scheduler_wait(c.scheduler, ids[i], &result, sizeof result, &left) == BDH_OK);
    CHECK(result.new_tokens == 20);
    CHECK(result.prompt_tokens == 5);
    CHECK(result.finish == BDH_FINISH_LENGTH);

    std::string alone, more_alone, more;
    bdh_generation_options options = options_in_c(c.model, &alone);
    options.max_new_tokens = 20;
    options.seed = i;
    REQUIRE(bdh_session_reset(c.session) == BDH_OK);
    REQUIRE(generate_in_c(c.session, "To be", &options) == BDH_OK);
    CHECK(texts[i] == alone);
    CHECK(position_of(left) == position_of(c.session));
    options.user = &more;
    const uint64_t next = c.submit("", options, left);
    CHECK(bdh_scheduler_wait(c.scheduler, next, nullptr, 0, nullptr) == BDH_OK);
    options.user = &more_alone;
    REQUIRE(generate_in_c(c.session, "", &options) == BDH_OK);
    CHECK(more == more_alone);
    bdh_session_free(left);
  }
}

TEST_CASE("C API: a text is cancelled by its number or its callback, and a full queue is busy") {
  const SchedulerInC c(1, 1);
  bdh_generation_options options = options_in_c(c.model);
  options.max_new_tokens = 1000000000;
  const uint64_t endless = c.submit("a", options);
  uint64_t id = 0;
  bdh_status status = BDH_OK;
  int taken = 0;
  std::vector<uint64_t> others;
  for (; taken < 3 && status == BDH_OK; ++taken) {
    status = bdh_scheduler_submit(c.scheduler, "a", 1, nullptr, &options, &id);
    if (status == BDH_OK) others.push_back(id);
  }
  CHECK(status == BDH_BUSY);
  CHECK(says("try again later"));
  CHECK(bdh_scheduler_cancel(c.scheduler, endless) == BDH_OK);
  bdh_generation_result result;
  CHECK(bdh_scheduler_wait(c.scheduler, endless, &result, sizeof result, nullptr) == BDH_CANCELLED);
  CHECK(result.finish == BDH_FINISH_CANCELLED);
  CHECK(bdh_scheduler_wait(c.scheduler, endless, nullptr, 0, nullptr) == BDH_NOT_FOUND);
  for (const uint64_t other : others) {
    CHECK(bdh_scheduler_cancel(c.scheduler, other) == BDH_OK);
    CHECK(bdh_scheduler_wait(c.scheduler, other, nullptr, 0, nullptr) == BDH_CANCELLED);
  }
  options.on_token = [](void*, int32_t, double) { return 0; };
  CHECK(bdh_scheduler_wait(c.scheduler, c.submit("a", options), &result, sizeof result, nullptr) ==
        BDH_CANCELLED);
  CHECK(result.new_tokens == 1);
}

TEST_CASE("C API: a scheduler takes NULL and wrong sizes, and says so") {
  const SchedulerInC c;
  bdh_scheduler_options options;
  CHECK(bdh_scheduler_options_defaults(nullptr, sizeof options) == BDH_INVALID_ARGUMENT);
  REQUIRE(bdh_scheduler_options_defaults(&options, sizeof options) == BDH_OK);
  options.chunk = 0;
  bdh_scheduler* other = nullptr;
  CHECK(bdh_scheduler_new(c.model, &options, &other) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_scheduler_new(nullptr, nullptr, &other) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_scheduler_new(c.model, nullptr, nullptr) == BDH_INVALID_ARGUMENT);
  uint64_t id = 0;
  CHECK(bdh_scheduler_submit(nullptr, "a", 1, nullptr, nullptr, &id) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_scheduler_submit(c.scheduler, nullptr, 1, nullptr, nullptr, &id) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_scheduler_submit(c.scheduler, "a", 1, nullptr, nullptr, nullptr) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_scheduler_submit(c.scheduler, "", 0, nullptr, nullptr, &id) == BDH_INVALID_ARGUMENT);
  bdh_generation_options given = options_in_c(c.model);
  given.on_prompt = [](void*, int64_t, int64_t) { return 1; };
  CHECK(bdh_scheduler_submit(c.scheduler, "a", 1, nullptr, &given, &id) == BDH_INVALID_ARGUMENT);
  CHECK(says("on_prompt"));
  CHECK(bdh_scheduler_cancel(nullptr, 1) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_scheduler_wait(c.scheduler, 12345, nullptr, 0, nullptr) == BDH_NOT_FOUND);
  bdh_scheduler_free(nullptr);
}
