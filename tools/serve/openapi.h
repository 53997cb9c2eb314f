// openapi.json: the schemas of what is asked and answered.
#pragma once

#include <string>
#include <string_view>

#include "bdh/base/json.h"

namespace bdh::tools {

struct Service;

/// An operation with a body of that schema (null: none) that answers with one of the other; `streams`: or
/// with server-sent events.
Json operation(std::string_view summary, const Json& body, const Json& answer, bool streams,
               std::string_view status = "200");
/// One that sends bytes, or takes them and answers with a state.
Json binary_operation(std::string_view summary, bool sends);
/// One that answers with text of that type.
Json text_operation(std::string_view summary, std::string_view type);

Json completion_schema();
Json chat_schema();
Json generate_schema();
Json state_schema();
Json synapses_schema();
Json deleted_schema();
Json model_schema();
Json embedding_schema();
Json list_schema(const Json& items);

/// The whole document.
Json openapi(const Service& service);

}  // namespace bdh::tools
