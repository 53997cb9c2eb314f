// The C API's scheduler: texts by number.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "bdh/c/generation_options.h"
#include "bdh/c/handles.h"
#include "bdh/serve/scheduler.h"

struct bdh_scheduler {
  std::shared_ptr<const bdh::Model> model;
  std::mutex mutex;  // of `texts`
  std::map<uint64_t, bdh::PendingText> texts;
  bdh::Scheduler scheduler;

  bdh_scheduler(std::shared_ptr<const bdh::Model> own, const bdh::SchedulerOptions& options)
      : model(std::move(own)), scheduler(model->weights, model->tokenizer, options) {}
};

namespace {

using namespace bdh::c;
using bdh::ErrorKind;

bdh_scheduler_options default_options() {
  const bdh::SchedulerOptions options;
  return {sizeof(bdh_scheduler_options), static_cast<int64_t>(options.most_running),
          static_cast<int64_t>(options.most_queued), options.chunk};
}

bdh::SchedulerOptions scheduler_options(const bdh_scheduler_options& given) {
  if (given.most_running < 1 || given.most_queued < 0 || given.chunk < 1) {
    bdh::fail(ErrorKind::invalid_argument, "most_running, most_queued and chunk are ", given.most_running,
              ", ", given.most_queued, " and ", given.chunk, ": they must be 1, 0 and 1 or more");
  }
  bdh::SchedulerOptions options;
  options.most_running = static_cast<size_t>(given.most_running);
  options.most_queued = static_cast<size_t>(given.most_queued);
  options.chunk = given.chunk;
  return options;
}

void take_callbacks(bdh::TextRequest& request, const bdh_generation_options& given) {
  if (given.on_prompt)
    bdh::fail(ErrorKind::invalid_argument, "on_prompt must be NULL: a scheduler tells none");
  if (given.on_text) {
    request.on_text = [given](std::string_view text) {
      return text.empty() || given.on_text(given.user, text.data(), text.size()) != 0;
    };
  }
  if (given.on_token) {
    request.on_token = [given](int32_t token, std::span<const float> logits) {
      return given.on_token(given.user, token, bdh::log_probability(logits, token)) != 0;
    };
  }
}

bdh::PendingText taken(bdh_scheduler& scheduler, uint64_t id) {
  const std::lock_guard lock(scheduler.mutex);
  const auto found = scheduler.texts.find(id);
  if (found == scheduler.texts.end())
    bdh::fail(ErrorKind::not_found, "there is no text ", id, " that is still to be waited for");
  bdh::PendingText text = std::move(found->second);
  scheduler.texts.erase(found);
  return text;
}

}  // namespace

bdh_status bdh_scheduler_options_defaults(bdh_scheduler_options* options, size_t size) {
  return guarded([&] { give(default_options(), options, size, "bdh_scheduler_options"); });
}

bdh_status bdh_scheduler_new(const bdh_model* model, const bdh_scheduler_options* options,
                             bdh_scheduler** scheduler) {
  return guarded([&] {
    require(model, "model");
    require(scheduler, "scheduler");
    if (options) require_size(options->size, sizeof *options, "bdh_scheduler_options");
    tokenizer_of(*model->model);
    *scheduler = std::make_unique<bdh_scheduler>(model->model,
                                                 scheduler_options(options ? *options : default_options()))
                     .release();
  });
}

void bdh_scheduler_free(bdh_scheduler* scheduler) { const std::unique_ptr<bdh_scheduler> owner(scheduler); }

bdh_status bdh_scheduler_submit(bdh_scheduler* scheduler, const char* prompt, size_t length,
                                const bdh_session* from, const bdh_generation_options* options,
                                uint64_t* id) {
  bool is_busy = false;
  const bdh_status status = guarded([&] {
    require(scheduler, "scheduler");
    require(id, "id");
    if (length > 0) require(prompt, "prompt");
    if (options) require_size(options->size, sizeof *options, "bdh_generation_options");
    const bdh::Model& model = *scheduler->model;
    const bdh_generation_options given = options ? *options : options_of(model.generation);
    bdh::TextRequest request;
    request.prompt.assign(length > 0 ? prompt : "", length);
    request.config = config_of(model, from && from->own_horizon, given);
    take_callbacks(request, given);
    if (from) {
      request.from = std::make_shared<const bdh::Session>(from->session.clone());
      request.continued = continuation_of(*from, given.seed);
    }
    const std::lock_guard lock(scheduler->mutex);
    auto ticket = scheduler->scheduler.submit(std::move(request));
    is_busy = !ticket;
    if (is_busy)
      bdh::fail(ErrorKind::cancelled, "as many texts wait as the scheduler takes; try again later");
    *id = ticket->id;
    scheduler->texts.emplace(ticket->id, std::move(ticket->text));
  });
  return is_busy ? BDH_BUSY : status;
}

bdh_status bdh_scheduler_cancel(bdh_scheduler* scheduler, uint64_t id) {
  return guarded([&] {
    require(scheduler, "scheduler");
    scheduler->scheduler.cancel(id);
  });
}

bdh_status bdh_scheduler_wait(bdh_scheduler* scheduler, uint64_t id, bdh_generation_result* result,
                              size_t result_size, bdh_session** session) {
  return guarded([&] {
    require(scheduler, "scheduler");
    if (result) require_size(result_size, sizeof *result, "bdh_generation_result");
    bdh::ServedText served = taken(*scheduler, id).get();
    if (result) {
      *result = {};
      result->finish = finish_of(served.text.finish);
      result->prompt_tokens = served.text.prompt_tokens;
      result->new_tokens = std::ssize(served.text.tokens);
    }
    if (session) {
      *session = served.session
                     ? std::make_unique<bdh_session>(
                           bdh_session{scheduler->model, std::move(*served.session), served.text.next})
                           .release()
                     : nullptr;
    }
    if (served.text.finish == bdh::FinishReason::cancelled)
      bdh::fail(ErrorKind::cancelled, "the text was cancelled");
  });
}
