// A stream of ours as minizip sees it: a table of functions.
#pragma once

#include <ioapi.h>

namespace bdh {

/// `Callbacks` has minizip's read, write, tell, seek and error as static functions; each is given `stream`.
template <class Callbacks>
zlib_filefunc64_def minizip_functions(void* stream) {
  zlib_filefunc64_def functions{};
  functions.zopen64_file = [](voidpf opaque, const void*, int) { return opaque; };
  functions.zread_file = Callbacks::read;
  functions.zwrite_file = Callbacks::write;
  functions.ztell64_file = Callbacks::tell;
  functions.zseek64_file = Callbacks::seek;
  functions.zclose_file = [](voidpf, voidpf) { return 0; };
  functions.zerror_file = Callbacks::error;
  functions.opaque = stream;
  return functions;
}

}  // namespace bdh
