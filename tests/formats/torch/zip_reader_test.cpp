// Zip archives that lead out of themselves, lie about sizes, overlap or explode: each with the reason it must
// be refused for.
#include "bdh/formats/torch/zip_reader.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/support/thrown.h"
#include "tests/support/zip_bytes.h"

using namespace bdh;
using namespace bdh::test;

namespace {

struct Refused {
  std::vector<ZipPart> parts;
  std::string fragment;
};

ZipReader opened(const std::string& bytes) { return ZipReader(std::as_bytes(std::span(bytes)), "model.pt"); }

std::string unpacked(ZipReader& zip, std::string_view name) {
  const ZipEntry* entry = zip.find(name);
  REQUIRE(entry != nullptr);
  const auto memory = zip.unpack(*entry);
  return {reinterpret_cast<const char*>(memory.get()), entry->bytes};
}

Thrown open_thrown(const std::string& bytes) {
  return thrown_by([&] { opened(bytes); });
}

// Opens, and unpacks everything.
Thrown read_thrown(const std::string& bytes) {
  return thrown_by([&] {
    ZipReader zip = opened(bytes);
    for (const ZipEntry& entry : zip.entries()) zip.unpack(entry);
  });
}

ZipPart part(const std::string& name, const std::string& data) {
  ZipPart made;
  made.name = name;
  made.data = data;
  return made;
}

// Deflated data that claims to unpack to `text`.
ZipPart packed(const std::string& name, const std::string& data, const std::string& text) {
  ZipPart made = part(name, data);
  made.method = 8;
  made.unpacked = text.size();
  made.checksum = crc32(text);
  return made;
}

ZipPart with_size(ZipPart made, uint64_t unpacked) {
  made.unpacked = unpacked;
  return made;
}

ZipPart with_stored(ZipPart made, uint64_t stored) {
  made.stored = stored;
  return made;
}

ZipPart with_checksum(ZipPart made, uint32_t checksum) {
  made.checksum = checksum;
  return made;
}

ZipPart with_method(ZipPart made, uint16_t method, uint16_t flags = 0) {
  made.method = method;
  made.flags = flags;
  return made;
}

ZipPart lying_at(ZipPart made, uint64_t offset) {
  made.at = offset;
  return made;
}

void check_refused(const std::vector<Refused>& archives, ErrorKind kind) {
  for (const auto& refused : archives) {
    CAPTURE(refused.fragment);
    const Thrown thrown = read_thrown(zip_bytes(refused.parts));
    CAPTURE(thrown.message);
    CHECK(thrown.kind == kind);
    CHECK(thrown.says("model.pt: "));
    CHECK(thrown.says(refused.fragment));
  }
}

}  // namespace

TEST_CASE("zip: stored entries are read in place, deflated ones unpacked") {
  const std::string long_text(200'000, 'x');
  const std::string bytes =
      zip_bytes({part("b", "stored"), packed("a/c", deflated(long_text), long_text), part("e", "")});
  ZipReader zip = opened(bytes);
  CHECK(zip.entries().size() == 3);
  CHECK(zip.entries()[0].name == "a/c");
  CHECK(zip.view(*zip.find("b")).data() == reinterpret_cast<const std::byte*>(&bytes[bytes.find("stored")]));
  CHECK(unpacked(zip, "b") == "stored");
  CHECK(unpacked(zip, "a/c") == long_text);
  CHECK(unpacked(zip, "e").empty());
  CHECK(zip.find("a") == nullptr);
}

TEST_CASE("zip: numbers of 64 bits") {
  const std::string bytes = zip_bytes({part("a", "12"), part("b", "stored")}, ZipKind::zip64);
  const ZipReader zip = opened(bytes);
  CHECK(zip.view(*zip.find("b")).data() == reinterpret_cast<const std::byte*>(&bytes[bytes.find("stored")]));
  const auto far = [](ZipPart made, uint64_t size) {
    return open_thrown(zip_bytes({with_stored(with_size(std::move(made), size), size)}, ZipKind::zip64));
  };
  for (const uint64_t size : {uint64_t{3000}, uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}})
    CHECK(far(part("a", "12"), size).says("reach past the end of the file"));
  std::string cut = zip_bytes({part("a", "12")}, ZipKind::zip64);
  cut[cut.find("PK\x01\x02") + 46 + 1 + 2] = 15;  // the length of the field of sizes
  CHECK(open_thrown(cut).says("the field of its sizes is too short"));
}

TEST_CASE("zip: names that lead out of the archive") {
  for (const std::string& name : {std::string("../../etc/passwd"), std::string("archive/../../x"),
                                  std::string("/etc/passwd"), std::string(".."), std::string("a/.."),
                                  std::string("a\\..\\b"), std::string("a\0b", 3), std::string("//x")}) {
    CAPTURE(name);
    const Thrown thrown = open_thrown(zip_bytes({part(name, "x")}));
    CHECK(thrown.kind == ErrorKind::bad_file);
    CHECK(thrown.says("the name leads out of the archive"));
  }
  CHECK_FALSE(open_thrown(zip_bytes({part("archive/..x/x../...", "x")})).kind);
}

TEST_CASE("zip: entries that contradict themselves or one another") {
  const std::string quoted = zip_bytes({part("b", "12345678")}).substr(0, 39);  // its header and data
  check_refused(
      {
          {{part("a", "1"), part("b", "2"), part("a", "3")}, "zip entry 'a': the name stands twice"},
          {{part("a", "12345678"), lying_at(part("a", "12345678"), 0)}, "stands twice"},
          {{part("a", "12345678"), lying_at(part("b", "12345678"), 0)}, "'b': its header is missing"},
          {{part("a", quoted), lying_at(part("b", "12345678"), 31)}, "'b': its bytes overlap those of 'a'"},
          {{lying_at(part("a", "1"), 1000)}, "reach past the end of the file"},
          {{with_size(part("a", "12"), 3)}, "is not compressed, but claims to hold 3 bytes in 2"},
          {{with_stored(with_size(part("a", "12"), 1 << 20), 1 << 20)}, "reach past the end of the file"},
          {{with_stored(with_size(part("a", "12"), 0xfffffffe), 0xfffffffe)},
           "reach past the end of the file"},
          {{with_checksum(part("a", "12"), 1)}, "its bytes contradict its checksum"},
          {{with_checksum(packed("a", deflated("12"), "12"), 1)}, "its bytes contradict its checksum"},
          {{packed("a", deflated("12"), "123")}, "unpacks to 2 bytes, but claims 3"},
          {{packed("a", deflated("123"), "12x")}, "its bytes contradict its checksum"},
          {{packed("a", "no deflate stream", "12")}, "unpacks to 0 bytes, but claims 2"},
          {{packed("a", deflated("12").substr(0, 4), "12")}, "unpacks to 0 bytes, but claims 2"},
          {{packed("a", "", "12")}, "unpacks to 0 bytes, but claims 2"},
      },
      ErrorKind::bad_file);
}

TEST_CASE("zip: what bdh does not read") {
  check_refused(
      {
          {{with_method(part("a", "12"), 0, 1)}, "zip entry 'a' is encrypted"},
          {{with_method(part("a", "12"), 8, 1 << 6)}, "is encrypted"},
          {{with_method(part("a", "12"), 12)}, "uses compression method 12"},
          {{with_method(part("a", "12"), 14)}, "uses compression method 14"},
          {{with_method(part("a", "12"), 99)}, "uses compression method 99"},
      },
      ErrorKind::unsupported);
}

TEST_CASE("zip: bombs are refused before they are unpacked") {
  const uint64_t bytes = uint64_t{64} << 20;
  const ZipPart bomb = with_size(with_method(part("a", deflated_zeros(bytes)), 8), bytes);
  check_refused(
      {
          {{bomb}, "would grow to 67.1 MB from 422.7 kB, more than a file of"},
          {{with_size(bomb, uint64_t{1} << 31)}, "would grow to 2.1 GB"},
      },
      ErrorKind::bad_file);
  const std::string far = zip_bytes({with_size(bomb, uint64_t{1} << 62)}, ZipKind::zip64);
  CHECK(read_thrown(far).says("would grow to"));
  // Many small ones, each within bounds.
  const uint64_t little = uint64_t{6} << 20;
  const ZipPart small = with_size(with_method(part("a", deflated_zeros(little)), 8), little);
  std::vector<ZipPart> parts(8, small);
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].name = std::string(1, static_cast<char>('a' + i));
    parts[i].checksum = crc32(std::string(little, '\0'));
  }
  CHECK(read_thrown(zip_bytes(parts)).says("zip entry 'e': would grow"));
}

TEST_CASE("zip: cut and mutated archives") {
  const std::string text(300, 'x');
  const std::string good = zip_bytes({part("a/data.pkl", "12345678"), packed("a/c", deflated(text), text)});
  CHECK(open_thrown("").says("the directory at the end of the zip archive is missing or damaged"));
  for (size_t length = 0; length < good.size(); ++length) {
    CAPTURE(length);
    CHECK(open_thrown(good.substr(0, length)).kind == ErrorKind::bad_file);
  }
  int refused = 0;
  for (const int mask : {0x01, 0x80, 0xff}) {
    for (size_t i = 0; i < good.size(); ++i) {
      std::string mutated = good;
      mutated[i] = static_cast<char>(mutated[i] ^ mask);
      refused += read_thrown(mutated).kind ? 1 : 0;
    }
  }
  CHECK(refused > 200);
}

TEST_CASE("zip: a directory that claims more entries than it has") {
  std::string bytes = zip_bytes({part("a", "1")});
  bytes[bytes.size() - 14] = bytes[bytes.size() - 12] = 2;
  CHECK(open_thrown(bytes).says("directory ends after 1 of 2 entries"));
  std::string wide = zip_bytes({part("a", "1")}, ZipKind::zip64);
  const size_t end = wide.find("PK\x06\x06");
  wide[end + 31] = wide[end + 39] = 0x7f;  // the highest bytes of the numbers of entries
  CHECK(open_thrown(wide).says("directory ends after 1 of 9151314442816847873 entries"));
}
