// SHA-256 against the digests that FIPS 180-4's examples and sha256sum give.
#include "bdh/base/sha256.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "bdh/base/error.h"
#include "tests/support/temporary.h"

namespace {

using bdh::Sha256;
using bdh::test::TemporaryDirectory;

std::string digest(std::string_view text, size_t piece) {
  Sha256 hash;
  for (size_t at = 0; at < text.size(); at += piece)
    hash.add(std::as_bytes(std::span(text.substr(at, piece))));
  return hash.finish();
}

}  // namespace

TEST_CASE("sha256: known digests") {
  CHECK(digest("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(digest(std::string(1'000'000, 'a'), 1'000'000) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256: pieces of any length give the same digest") {
  for (const size_t length : {55, 56, 63, 64, 65, 119, 120, 127, 128, 1000}) {
    const std::string text(length, 'x');
    const std::string whole = digest(text, length);
    for (const size_t piece : {1, 7, 63, 64, 65}) CHECK_MESSAGE(digest(text, piece) == whole, length);
  }
}

TEST_CASE("sha256: of a file, in pieces that are told") {
  TemporaryDirectory directory;
  const std::string text(40'000'000, 'q');
  bdh::test::write_file(directory / "file", text);
  size_t told = 0;
  CHECK(bdh::sha256_of_file(directory / "file", [&](size_t bytes) { told += bytes; }) ==
        digest(text, text.size()));
  CHECK(told == text.size());
  bdh::test::write_file(directory / "empty", "");
  CHECK(bdh::sha256_of_file(directory / "empty") == digest("", 1));
  CHECK_THROWS_AS(bdh::sha256_of_file(directory / "none"), bdh::Error);
}
