// The sets. What PCRE2 knows under the same name is taken from there; characters that Unicode moved into a
// set after version 14 stand beside it.
#include "bdh/text/tokenizers/character_sets.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cctype>
#include <iterator>

#include "bdh/base/error.h"
#include "bdh/text/tokenizers/case_folds.h"
#include "bdh/text/tokenizers/unicode_blocks.h"

namespace bdh::tokenizers {
namespace {

// Since 10.40 a script's name alone means its extensions, too.
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
constexpr const char* kScript = "\\p{sc:";
#else
constexpr const char* kScript = "\\p{";
#endif

#define SPACES                                                                                             \
  "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{" \
  "3000}"
#define ALPHABETIC \
  "\\p{Alphabetic}\\x{363}-\\x{36f}\\x{c04}\\x{f82}\\x{f83}\\x{1dd3}-\\x{1de6}\\x{11080}\\x{11081}"
#define LOWERCASE "\\p{Lowercase}\\x{10fc}\\x{a7f2}-\\x{a7f4}\\x{ab69}"
#define WORD                                                                  \
  "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
  "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
#define GRAPH "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Cf}\\p{Co}"
#define ID_CONTINUE "\\x{200c}\\x{200d}\\x{30fb}\\x{ff65}"
#define IOTAS "\\x{399}\\x{3b9}\\x{1fbe}"  // what U+0345, a mark, is without regard to case

struct NamedSet {
  std::string_view name;
  const char* members;
  Cased cased;
  const char* gained = "";
};

constexpr NamedSet kPosix[] = {
    {"alnum", ALPHABETIC "\\p{Nd}", Cased::all},
    {"alpha", ALPHABETIC, Cased::all},
    {"ascii", "\\x{0}-\\x{7f}", Cased::none, "\\x{17f}\\x{212a}"},
    {"blank", "\\x{9}\\p{Zs}", Cased::none},
    {"cntrl", "\\p{Cc}", Cased::none},
    {"digit", "\\p{Nd}", Cased::none},
    {"graph", GRAPH, Cased::all},
    {"lower", LOWERCASE, Cased::some},
    {"print", GRAPH "\\p{Zs}", Cased::all},
    {"punct", "\\p{P}\\p{S}", Cased::none},
    {"space", SPACES, Cased::none},
    {"upper", "\\p{Uppercase}", Cased::some},
    {"word", WORD, Cased::all},
    {"xdigit", "0-9a-fA-F", Cased::none},
};

constexpr NamedSet kProperties[] = {
    {"alnum", ALPHABETIC "\\p{Nd}", Cased::all},
    {"alpha", ALPHABETIC, Cased::all},
    {"alphabetic", ALPHABETIC, Cased::all},
    {"any", "\\x{0}-\\x{10ffff}", Cased::all},
    {"ascii", "\\x{0}-\\x{7f}", Cased::none, "\\x{17f}\\x{212a}"},
    {"assigned", "\\P{Cn}", Cased::all},
    {"blank", "\\x{9}\\p{Zs}", Cased::none},
    {"cased", "\\p{Cased}\\x{10fc}\\x{a7f2}-\\x{a7f4}\\x{ab69}", Cased::some},
    {"casedletter", "\\p{Lu}\\p{Ll}\\p{Lt}", Cased::some},
    {"changeswhencasemapped", "\\p{CWCM}\\x{19b}\\x{264}", Cased::some},
    {"changeswhentitlecased", "\\p{CWT}\\x{19b}\\x{264}", Cased::some},
    {"changeswhenuppercased", "\\p{CWU}\\x{19b}\\x{264}", Cased::some},
    {"cntrl", "\\p{Cc}", Cased::none},
    {"cwcm", "\\p{CWCM}\\x{19b}\\x{264}", Cased::some},
    {"cwt", "\\p{CWT}\\x{19b}\\x{264}", Cased::some},
    {"cwu", "\\p{CWU}\\x{19b}\\x{264}", Cased::some},
    {"digit", "\\p{Nd}", Cased::none},
    {"ext", "\\p{Extender}\\x{a71}\\x{afb}\\x{11237}", Cased::none},
    {"extender", "\\p{Extender}\\x{a71}\\x{afb}\\x{11237}", Cased::none},
    {"graph", GRAPH, Cased::all},
    {"hyphen",
     "\\x{2d}\\x{ad}\\x{58a}\\x{1806}\\x{2010}\\x{2011}\\x{2e17}\\x{30fb}\\x{fe63}\\x{ff0d}\\x{ff65}",
     Cased::none},
    {"idc", "\\p{IDC}" ID_CONTINUE, Cased::all},
    {"idcontinue", "\\p{IDC}" ID_CONTINUE, Cased::all},
    {"lower", LOWERCASE, Cased::some},
    {"lowercase", LOWERCASE, Cased::some},
    {"newline", "\\x{a}", Cased::none},
    {"posixpunct", "\\p{P}\\p{S}", Cased::none},
    {"print", GRAPH "\\p{Zs}", Cased::all},
    {"punct", "\\p{P}", Cased::none},
    {"sentenceterminal",
     "\\p{STerm}\\x{17d4}\\x{17d5}\\x{2024}\\x{2cf9}-\\x{2cfb}\\x{fe12}\\x{fe15}\\x{fe16}", Cased::none},
    {"space", SPACES, Cased::none},
    {"sterm", "\\p{STerm}\\x{17d4}\\x{17d5}\\x{2024}\\x{2cf9}-\\x{2cfb}\\x{fe12}\\x{fe15}\\x{fe16}",
     Cased::none},
    {"upper", "\\p{Uppercase}", Cased::some},
    {"whitespace", SPACES, Cased::none},
    {"wspace", SPACES, Cased::none},
    {"xdigit", "0-9a-fA-F", Cased::none},
    {"xidc", "\\p{XIDC}" ID_CONTINUE, Cased::all},
    {"xidcontinue", "\\p{XIDC}" ID_CONTINUE, Cased::all},
};

struct Category {
  std::string_view letters;
  std::string_view name;
  Cased cased;
  const char* gained = "";
};

constexpr Category kCategories[] = {
    {"L", "letter", Cased::all, "\\x{345}"},
    {"LC", "", Cased::some},
    {"Lu", "uppercaseletter", Cased::some},
    {"Ll", "lowercaseletter", Cased::some},
    {"Lt", "titlecaseletter", Cased::some},
    {"Lm", "modifierletter", Cased::none},
    {"Lo", "otherletter", Cased::none},
    {"M", "mark", Cased::none, IOTAS},
    {"M", "combiningmark", Cased::none, IOTAS},
    {"Mn", "nonspacingmark", Cased::none, IOTAS},
    {"Mc", "spacingmark", Cased::none},
    {"Me", "enclosingmark", Cased::none},
    {"N", "number", Cased::none},
    {"Nd", "decimalnumber", Cased::none},
    {"Nl", "letternumber", Cased::none},
    {"No", "othernumber", Cased::none},
    {"P", "punctuation", Cased::none},
    {"Pc", "connectorpunctuation", Cased::none},
    {"Pd", "dashpunctuation", Cased::none},
    {"Ps", "openpunctuation", Cased::none},
    {"Pe", "closepunctuation", Cased::none},
    {"Pi", "initialpunctuation", Cased::none},
    {"Pf", "finalpunctuation", Cased::none},
    {"Po", "otherpunctuation", Cased::none},
    {"S", "symbol", Cased::none},
    {"Sm", "mathsymbol", Cased::none},
    {"Sc", "currencysymbol", Cased::none},
    {"Sk", "modifiersymbol", Cased::none},
    {"So", "othersymbol", Cased::none},
    {"Z", "separator", Cased::none},
    {"Zs", "spaceseparator", Cased::none},
    {"Zl", "lineseparator", Cased::none},
    {"Zp", "paragraphseparator", Cased::none},
    {"C", "other", Cased::none},
    {"Cc", "control", Cased::none},
    {"Cf", "format", Cased::none},
    {"Cn", "unassigned", Cased::none},
    {"Co", "privateuse", Cased::none},
    {"Cs", "surrogate", Cased::none},
};

// Properties that both engines have under these names, with the same characters.
constexpr std::string_view kCaseless[] = {"ahex",
                                          "asciihexdigit",
                                          "bidic",
                                          "bidicontrol",
                                          "dash",
                                          "defaultignorablecodepoint",
                                          "dep",
                                          "deprecated",
                                          "di",
                                          "ebase",
                                          "ecomp",
                                          "emod",
                                          "emojicomponent",
                                          "emojimodifier",
                                          "emojimodifierbase",
                                          "emojipresentation",
                                          "epres",
                                          "graphemelink",
                                          "grlink",
                                          "hex",
                                          "hexdigit",
                                          "ideo",
                                          "ideographic",
                                          "idsb",
                                          "idsbinaryoperator",
                                          "idst",
                                          "idstrinaryoperator",
                                          "joinc",
                                          "joincontrol",
                                          "loe",
                                          "logicalorderexception",
                                          "nchar",
                                          "noncharactercodepoint",
                                          "patsyn",
                                          "patternsyntax",
                                          "patternwhitespace",
                                          "patws",
                                          "pcm",
                                          "prependedconcatenationmark",
                                          "qmark",
                                          "quotationmark",
                                          "radical",
                                          "regionalindicator",
                                          "ri",
                                          "uideo",
                                          "unifiedideograph",
                                          "variationselector",
                                          "vs"};
constexpr std::string_view kWithCase[] = {"changeswhencasefolded",
                                          "changeswhenlowercased",
                                          "cwcf",
                                          "cwl",
                                          "emoji",
                                          "extendedpictographic",
                                          "extpict",
                                          "ids",
                                          "idstart",
                                          "math",
                                          "sd",
                                          "softdotted",
                                          "uppercase",
                                          "xids",
                                          "xidstart"};

// Scripts whose names Oniguruma has; PCRE2 has others and says which names it does not know.
constexpr std::string_view kCasedScripts[] = {
    "adlam",      "adlm",         "armenian", "armn",    "cher",      "cherokee", "common",   "copt",
    "coptic",     "cyrillic",     "cyrl",     "deseret", "dsrt",      "geor",     "georgian", "glag",
    "glagolitic", "greek",        "grek",     "hung",    "inherited", "latin",    "latn",     "medefaidrin",
    "medf",       "oldhungarian", "osage",    "osge",    "qaac",      "qaai",     "vith",     "vithkuqi",
    "wara",       "warangciti",   "zinh",     "zyyy"};
// Names of PCRE2 for scripts that Oniguruma does not have, or that are other sets there.
constexpr std::string_view kNotScripts[] = {"caseignorable", "ci",    "graphemebase", "graphemeextend",
                                            "grbase",        "grext", "term",         "terminalpunctuation"};

template <size_t size>
bool among(const std::string_view (&names)[size], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

template <size_t size>
std::optional<CharacterSet> named(const NamedSet (&sets)[size], std::string_view name) {
  for (const NamedSet& set : sets)
    if (set.name == name) return CharacterSet{set.members, set.cased, set.gained};
  return std::nullopt;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string plain_name(std::string_view written) {
  std::string plain;
  for (const char c : written)
    if (c != ' ' && c != '-' && c != '_') plain += lower(c);
  return plain;
}

bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<CharacterSet> category_set(std::string_view name) {
  for (const Category& c : kCategories)
    if (c.name == name || same_letters(c.letters, name)) {
      const char* members = c.letters == "LC" ? "\\p{Lu}\\p{Ll}\\p{Lt}" : nullptr;
      return CharacterSet{members ? members : concat("\\p{", c.letters, "}"), c.cased, c.gained};
    }
  return std::nullopt;
}

bool holds_case(const UnicodeBlock& block) {
  const auto& folds = case_folds();
  if (std::any_of(folds.begin(), folds.end(), [&](const CaseFold& fold) {
        return fold.character >= block.first && fold.character <= block.last;
      }))
    return true;
  for (char32_t c = block.first; c <= block.last; ++c)
    if (has_case(c)) return true;
  return false;
}

std::string hexadecimal(char32_t code) {
  std::string digits;
  do {
    digits.insert(digits.begin(), "0123456789abcdef"[code % 16]);
    code /= 16;
  } while (code != 0);
  return "\\x{" + digits + "}";
}

std::optional<CharacterSet> block_set(std::string_view name) {
  const UnicodeBlock* block = name.starts_with("in") ? unicode_block(name.substr(2)) : nullptr;
  if (!block) return std::nullopt;
  return CharacterSet{hexadecimal(block->first) + "-" + hexadecimal(block->last),
                      holds_case(*block) ? Cased::some : Cased::none};
}

}  // namespace

CharacterSet space_set() { return *named(kPosix, "space"); }
CharacterSet digit_set() { return *named(kPosix, "digit"); }
CharacterSet hex_digit_set() { return *named(kPosix, "xdigit"); }
CharacterSet word_set(Place place) {
  CharacterSet set = *named(kPosix, "word");
  if (place == Place::outside) set.members += "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
  return set;
}
CharacterSet no_space_set() {
  return {
      "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
      "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}",
      Cased::all};
}

std::optional<CharacterSet> posix_set(std::string_view name) { return named(kPosix, name); }

std::optional<CharacterSet> property_set(std::string_view written, Place place) {
  const std::string name = plain_name(written);
  const bool letters =
      std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) != 0 && c < 0x80; });
  if (name.empty() || !letters || among(kNotScripts, name)) return std::nullopt;
  if (name == "word") return word_set(place);
  if (auto set = named(kProperties, name)) return set;
  if (auto set = category_set(name)) return set;
  if (auto set = block_set(name)) return set;
  const std::string quoted = name + "}";
  if (among(kCaseless, name)) return CharacterSet{"\\p{" + quoted, Cased::none};
  if (among(kWithCase, name)) return CharacterSet{"\\p{" + quoted, Cased::some};
  return CharacterSet{kScript + quoted, among(kCasedScripts, name) ? Cased::some : Cased::none};
}

}  // namespace bdh::tokenizers
