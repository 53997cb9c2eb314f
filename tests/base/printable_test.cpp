// Names made fit for a one-line message.
#include "bdh/base/printable.h"

#include <doctest/doctest.h>

#include "bdh/base/json_dom.h"

using namespace bdh;

TEST_CASE("printable: plain names stay, others are escaped") {
  CHECK(printable("embed.weight") == "'embed.weight'");
  CHECK(printable("") == "''");
  CHECK(printable("größe 量") == "'größe 量'");
  CHECK(printable(std::string_view("a\nb\x1b\0\x7f", 6)) == "'a\\x0ab\\x1b\\x00\\x7f'");
  CHECK(printable("\xc2\x9b") == "'\\xc2\\x9b'");
  CHECK(printable("\xff\xc3") == "'\\xff\\xc3'");
}

TEST_CASE("printable: long names are cut between characters") {
  const std::string cut = printable(std::string(5000, 'x'));
  CHECK(cut.size() < 110);
  CHECK(cut.substr(cut.size() - 5) == "x...'");
  std::string wide;
  for (int i = 0; i < 500; ++i) wide += "量";
  CHECK(printable(wide).size() < 110);
  CHECK(simdjson::validate_utf8(printable(wide)));
}

TEST_CASE("printable: UTF-8 characters agree with simdjson's validation") {
  int wrong = 0;
  const auto check = [&](std::string_view text) {
    size_t at = 0;
    while (at < text.size() && utf8_length(text.substr(at)) > 0) at += utf8_length(text.substr(at));
    wrong += is_utf8(text) != (at == text.size());
    wrong += (at == text.size()) != simdjson::validate_utf8(text.data(), text.size());
  };
  const unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xff};
  for (int first = 0; first < 256; ++first) {
    for (const auto second : edges) {
      for (const auto third : edges) {
        for (const auto fourth : edges) {
          const char bytes[] = {static_cast<char>(first), static_cast<char>(second), static_cast<char>(third),
                                static_cast<char>(fourth)};
          for (size_t length = 1; length <= 4; ++length) check({bytes, length});
        }
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(utf8_length("") == 0);
}
