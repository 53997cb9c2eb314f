// The C API's sessions: tokens in, logits out, one or many at once, and sessions kept and taken up again.
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdh/c/handles.h"
#include "bdh/model/session_file.h"

namespace {

using namespace bdh::c;
using bdh::ErrorKind;

size_t logits_wanted(const bdh_read& read, size_t vocab) {
  switch (read.which) {
    case BDH_LOGITS_NONE:
      return 0;
    case BDH_LOGITS_LAST:
      return vocab;
    case BDH_LOGITS_ALL:
      if (read.count <= SIZE_MAX / vocab) return read.count * vocab;
      bdh::fail(ErrorKind::invalid_argument, "count: ", read.count, " tokens are too many");
    default:
      bdh::fail(ErrorKind::invalid_argument, "which must be BDH_LOGITS_NONE, _LAST or _ALL, not ",
                read.which);
  }
}

bdh::SessionRead checked(const bdh_read& read) {
  require(read.session, "session");
  require(read.tokens, "tokens");
  const size_t wanted = logits_wanted(read, static_cast<size_t>(read.session->model->config().vocab_size));
  if (wanted > 0) require(read.logits, "logits");
  if (read.capacity < wanted) {
    bdh::fail(ErrorKind::invalid_argument, "capacity: room for ", read.capacity, " logits, and ", wanted,
              " are wanted");
  }
  return {&read.session->session, {read.tokens, read.count}, {read.logits, wanted}};
}

// The last token of a generated text.
void read_unread(bdh_session& session) {
  std::vector<int32_t>& unread = session.text.unread;
  if (unread.empty()) return;
  const bdh::SessionRead read{&session.session, unread, {}};
  bdh::read_batch({&read, 1});
  unread.clear();
}

void read_together(std::span<const bdh_read> reads) {
  std::vector<bdh::SessionRead> checked_reads;
  for (const bdh_read& read : reads) checked_reads.push_back(checked(read));
  for (const bdh_read& read : reads) read_unread(*read.session);
  bdh::read_batch(checked_reads);
}

bdh::SavedSession saved(const bdh_session& session) {
  bdh::SavedSession saved = session.session.save();
  saved.text = session.text;
  return saved;
}

// Into another session where the horizon is another one, so that a failure leaves this one as it is.
void restore(bdh_session& session, const bdh::SavedSession& saved, const std::string& source) {
  if (session.own_horizon || saved.horizon == session.session.options().horizon) {
    session.session.restore(saved, source);
  } else {
    bdh::SessionOptions options = session.session.options();
    options.horizon = saved.horizon;
    bdh::Session other(session.model->weights, options);
    other.restore(saved, source);
    session.session = std::move(other);
  }
  session.text = saved.text;
}

}  // namespace

bdh_status bdh_session_new(const bdh_model* model, bdh_session** session) {
  return guarded([&] {
    require(session, "session");
    *session = nullptr;
    require(model, "model");
    *session = new bdh_session{model->model, bdh::Session(model->model->weights)};
  });
}

bdh_status bdh_session_clone(const bdh_session* session, bdh_session** copy) {
  return guarded([&] {
    require(copy, "copy");
    *copy = nullptr;
    require(session, "session");
    *copy = new bdh_session{session->model, session->session.clone(), session->text, session->own_horizon};
  });
}

void bdh_session_free(bdh_session* session) { delete session; }

bdh_status bdh_session_reset(bdh_session* session) {
  return guarded([&] {
    require(session, "session");
    session->session.reset();
    session->text = {};
  });
}

bdh_status bdh_session_set_horizon(bdh_session* session, const float* horizon, size_t count) {
  return guarded([&] {
    require(session, "session");
    if (count > 0) require(horizon, "horizon");
    if (count > static_cast<size_t>(session->model->config().n_head))
      bdh::fail(ErrorKind::invalid_argument, "horizon: ", count, " numbers are more than there are heads");
    bdh::SessionOptions options = session->session.options();
    options.horizon.assign(horizon, horizon + count);
    session->session.reset(options);
    session->text = {};
    session->own_horizon = true;
  });
}

bdh_status bdh_session_set_state_dtype(bdh_session* session, const char* dtype) {
  return guarded([&] {
    require(session, "session");
    require(dtype, "dtype");
    const std::optional<bdh::DType> wanted = bdh::dtype_from_option(dtype);
    if (wanted != bdh::DType::f32 && wanted != bdh::DType::bf16)
      bdh::fail(ErrorKind::invalid_argument, "dtype of a state must be f32 or bf16, not '", dtype, "'");
    bdh::SessionOptions options = session->session.options();
    options.state_dtype = *wanted;
    session->session.reset(options);
    session->text = {};
  });
}

bdh_status bdh_session_get_position(const bdh_session* session, int64_t* position) {
  return guarded([&] {
    require(session, "session");
    require(position, "position");
    *position = session->session.position();
  });
}

bdh_status bdh_session_read(bdh_session* session, const int32_t* tokens, size_t count, bdh_logits which,
                            float* logits, size_t capacity) {
  return guarded([&] {
    const bdh_read read{session, tokens, count, logits, capacity, static_cast<int32_t>(which), 0};
    read_together({&read, 1});
  });
}

bdh_status bdh_session_read_batch(const bdh_read* reads, size_t count, size_t read_size) {
  return guarded([&] {
    require_size(read_size, sizeof *reads, "bdh_read");
    if (count > 0) require(reads, "reads");
    read_together({reads, count});
  });
}

bdh_status bdh_session_save(bdh_session* session, const char* path) {
  return guarded([&] {
    require(session, "session");
    require(path, "path");
    bdh::write_session(path, saved(*session));
  });
}

bdh_status bdh_session_restore(bdh_session* session, const char* path) {
  return guarded([&] {
    require(session, "session");
    require(path, "path");
    restore(*session, bdh::read_session(std::filesystem::path(path)), path);
  });
}

bdh_status bdh_session_save_buffer(bdh_session* session, void* buffer, size_t capacity, size_t* size) {
  return guarded([&] {
    require(session, "session");
    const std::vector<std::byte> bytes = bdh::session_bytes(saved(*session));
    copy_out(std::span(bytes), static_cast<std::byte*>(buffer), capacity, size);
  });
}

bdh_status bdh_session_restore_buffer(bdh_session* session, const void* buffer, size_t size) {
  return guarded([&] {
    require(session, "session");
    require(buffer, "buffer");
    const std::span<const std::byte> bytes(static_cast<const std::byte*>(buffer), size);
    restore(*session, bdh::read_session(bytes, "the buffer"), "the buffer");
  });
}
