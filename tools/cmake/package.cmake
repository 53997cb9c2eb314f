# Installation; find_package(bdh) and pkg-config; and `make package`, a Debian package and an archive of the same.
# find_package gives bdh::bdh, the static library for C++ and C, and bdh::c, the shared one, which has the C API alone.
include(CMakePackageConfigHelpers)

set(bdh_package ${CMAKE_INSTALL_LIBDIR}/cmake/bdh)
file(WRITE ${PROJECT_BINARY_DIR}/bdhConfig.cmake [[
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(simdjson)
]])
if(BDH_CUDA_BUILT)
  file(APPEND ${PROJECT_BINARY_DIR}/bdhConfig.cmake "find_dependency(CUDAToolkit)\n")
endif()
if(bdh_parts)
  file(APPEND ${PROJECT_BINARY_DIR}/bdhConfig.cmake "find_dependency(PkgConfig)\n${bdh_parts}")
endif()
file(APPEND ${PROJECT_BINARY_DIR}/bdhConfig.cmake [[
include(${CMAKE_CURRENT_LIST_DIR}/bdhTargets.cmake)
]])
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bdhConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(TARGETS bdh EXPORT bdhTargets)
if(BDH_SHARED)
  install(TARGETS bdh_shared EXPORT bdhTargets)
endif()
install(EXPORT bdhTargets NAMESPACE bdh:: DESTINATION ${bdh_package})
install(FILES ${PROJECT_BINARY_DIR}/bdhConfig.cmake ${PROJECT_BINARY_DIR}/bdhConfigVersion.cmake DESTINATION ${bdh_package})
install(CODE "set(BDH_SOURCE [[${PROJECT_SOURCE_DIR}]])\nset(BDH_INCLUDE_DIR [[${CMAKE_INSTALL_INCLUDEDIR}]])")
install(SCRIPT tools/cmake/install_headers.cmake)

# The library's folder as found from the .pc file, so that an installed tree may be moved.
set(bdh_pc_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH bdh_prefix_from_pc /prefix/${bdh_pc_folder} /prefix)
string(REGEX REPLACE "/$" "" bdh_prefix_from_pc ${bdh_prefix_from_pc})
# What the static library needs; the shared one needs nothing of its users.
list(JOIN bdh_static_libraries " " bdh_libraries)
if(BDH_SHARED)
  set(bdh_private_libraries ${bdh_libraries})
else()
  set(bdh_public_libraries ${bdh_libraries})
endif()
configure_file(tools/cmake/bdh.pc.in bdh.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/bdh.pc DESTINATION ${bdh_pc_folder})

# Where Debian's Python looks below /usr.
install(FILES bdh/c/bdh.py DESTINATION lib/python3/dist-packages)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(FILES tools/examples/generate.c tools/examples/generate.py tools/examples/load_model.cpp tools/examples/train.cpp
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)

if(PROJECT_IS_TOP_LEVEL)
  set(CPACK_GENERATOR TGZ)
  set(CPACK_PACKAGE_FILE_NAME ${PROJECT_NAME}-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR})
  string(TOLOWER ${CPACK_PACKAGE_FILE_NAME} CPACK_PACKAGE_FILE_NAME)
  set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_PACKAGE_CONTACT "the bdh authors")
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
  # Debian packages: bdh, and bdh-mpi, which alone needs Open MPI. The archive has both.
  set(CPACK_DEB_COMPONENT_INSTALL ON)
  set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_NAME bdh)
  set(CPACK_DEBIAN_MPI_PACKAGE_NAME bdh-mpi)
  set(CPACK_DEBIAN_MPI_PACKAGE_DEPENDS bdh)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SECTION science)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
  set(CPACK_DEBIAN_PACKAGE_SUGGESTS "libsimdjson-dev, libminizip-dev, libpcre2-dev, libutf8proc-dev, python3")
  include(CPack)
endif()
