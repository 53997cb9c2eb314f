// The files of text that paths name.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace bdh {

/// The regular files at `paths`, in that order. A folder stands for those in it and in its subfolders, in
/// byte order of names; names that begin with a dot and the folder `except` are left out. Links are followed,
/// and a folder is read once, however many lead to it. What is neither file nor folder in a folder is passed
/// over with a warning. Throws Error(not_found), Error(io), and Error(invalid_argument) for a path that is
/// neither file nor folder, or where there is no file at all.
std::vector<std::filesystem::path> find_text_files(const std::vector<std::filesystem::path>& paths,
                                                   const std::filesystem::path& except,
                                                   std::vector<std::string>& warnings);

}  // namespace bdh
