// The last error of each thread, and the checks that every function of the C API begins with.
#include "bdh/c/handles.h"

#include <exception>
#include <new>
#include <string>

#include "bdh/base/version.h"

namespace bdh::c {
namespace {

thread_local std::string last_error;

bdh_status failed(bdh_status status, const char* message) {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

bdh_status status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument:
      return BDH_INVALID_ARGUMENT;
    case ErrorKind::not_found:
      return BDH_NOT_FOUND;
    case ErrorKind::io:
      return BDH_IO;
    case ErrorKind::bad_file:
      return BDH_BAD_FILE;
    case ErrorKind::unsupported:
      return BDH_UNSUPPORTED;
    case ErrorKind::out_of_memory:
      return BDH_OUT_OF_MEMORY;
    case ErrorKind::cancelled:
      return BDH_CANCELLED;
  }
  return BDH_INTERNAL;
}

}  // namespace

bdh_status status_of_exception() {
  try {
    throw;
  } catch (const Error& error) {
    return failed(status_of(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return failed(BDH_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return failed(BDH_INTERNAL, error.what());
  } catch (...) {
    return failed(BDH_INTERNAL, "an unknown failure");
  }
}

void require(const void* pointer, const char* name) {
  if (!pointer) fail(ErrorKind::invalid_argument, name, " must not be NULL");
}

// A struct that grows by members at its end keeps its first size here as one that is known, too.
void require_size(size_t size, size_t known, const char* name) {
  if (size == known) return;
  fail(ErrorKind::invalid_argument, name, ": its size is ", size, ", and ", known, " in version ", kVersion,
       "; give sizeof the struct, compiled with this version's bdh_c.h, and fill options with _defaults "
       "first");
}

void copy_text(std::string_view from, char* to, size_t capacity, size_t* length) {
  copy_out(std::span(from.data(), from.size()), to, capacity, length);
}

const Tokenizer& tokenizer_of(const Model& model) {
  if (model.tokenizer) return *model.tokenizer;
  fail(ErrorKind::unsupported, "the model has no tokenizer that this build reads; use tokens");
}

}  // namespace bdh::c

const char* bdh_last_error(void) { return bdh::c::last_error.c_str(); }

const char* bdh_version(void) { return bdh::kVersion; }
