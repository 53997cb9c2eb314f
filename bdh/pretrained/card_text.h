// Words from anywhere, made fit for a model card: YAML scalars and Markdown.
#pragma once

#include <string>
#include <string_view>

namespace bdh {

/// One line of YAML that reads back as this very text: bare where that is safe, else double-quoted.
std::string yaml_scalar(std::string_view text);

/// One line of Markdown that shows this text and nothing else: also safe in a table's cell.
std::string markdown_text(std::string_view text);

/// As code where the text is a plain word (letters, digits, _ . / -), else as markdown_text.
std::string markdown_word(std::string_view text);

}  // namespace bdh
