# SPDX-License-Identifier: Apache-2.0
# Makes builds work on the ROS 2 wheels. Given to CMake from outside, as
# -DCMAKE_PROJECT_lerf_ros_INCLUDE=<this file>, so that CMakeLists.txt need not
# know of wheels. Runs when the project's own CMakeLists.txt is through.

# Exported targets of the wheels name the Python headers of the machine that
# built them; CMake refuses include directories that do not exist.
function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories "${target}" INTERFACE_INCLUDE_DIRECTORIES)
    if(directories)
      set(present "")
      foreach(directory IN LISTS directories)
        if(NOT IS_ABSOLUTE "${directory}" OR EXISTS "${directory}")
          list(APPEND present "${directory}")
        endif()
      endforeach()
      set_target_properties("${target}" PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
    endif()
  endforeach()
endfunction()

# The generators export numpy's headers; CMake refuses that for a virtual
# environment inside the source tree. Nobody needs them after the build.
function(keep_source_tree_paths_private)
  get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories "${target}" INTERFACE_INCLUDE_DIRECTORIES)
    if(directories)
      set(safe "")
      foreach(directory IN LISTS directories)
        string(FIND "${directory}" "${CMAKE_CURRENT_SOURCE_DIR}/" at)
        if(at EQUAL 0)
          set(directory "$<BUILD_INTERFACE:${directory}>")
        endif()
        list(APPEND safe "${directory}")
      endforeach()
      set_target_properties("${target}" PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${safe}")
    endif()
  endforeach()
endfunction()

cmake_language(DEFER CALL drop_missing_include_directories)
cmake_language(DEFER CALL keep_source_tree_paths_private)
