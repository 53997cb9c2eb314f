// Messages: text and numbers as they are put together.
#include "bdh/base/error.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/support/thrown.h"

using bdh::concat;

TEST_CASE("concat: text and numbers of every kind") {
  const std::string text = "text";
  CHECK(concat() == "");
  CHECK(concat("a", text, std::string_view("view"), 'c') == "atextviewc");
  CHECK(concat(std::string("kept until it is read"), 7, size_t{8}, uint8_t{9}, true) ==
        "kept until it is read7891");
  CHECK(concat(std::numeric_limits<int64_t>::min(), "..", std::numeric_limits<uint64_t>::max()) ==
        "-9223372036854775808..18446744073709551615");
}

TEST_CASE("concat: reals have six digits") {
  CHECK(concat(0.1f, " ", 1.0, " ", 1e-7, " ", -1234567.0, " ", 123456.0) ==
        "0.1 1 1e-07 -1.23457e+06 123456");
  CHECK(concat(std::numeric_limits<double>::infinity(), " ", -std::numeric_limits<float>::infinity()) ==
        "inf -inf");
  CHECK(concat(std::nan("")) == "nan");
}

TEST_CASE("fail throws what it is told") {
  const bdh::test::Thrown thrown =
      bdh::test::thrown_by([] { bdh::fail(bdh::ErrorKind::not_found, "no ", 3, " of ", 4.5); });
  CHECK(thrown.kind == bdh::ErrorKind::not_found);
  CHECK(thrown.message == "no 3 of 4.5");
}
