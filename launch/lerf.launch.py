# SPDX-License-Identifier: Apache-2.0
"""Capture and train online, and answer queries: mapper_node and query_node, RViz if asked for.

An argument that is left empty leaves the parameter to the params file, the preset and the default.
"""

from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from lerf_ros.errors import ForeignFolderError, LerfError
from lerf_ros.nodes.common.node_config import map_directory
from lerf_ros.nodes.query.rviz_service import configuration_path
from lerf_ros.show.rviz_view import map_view, write_configuration

# Launch arguments that set the parameter of the same name, by the nodes that have it.
BOTH = {
    'preset': 'settings to start from: offline, online or a YAML file',
    'map_directory': 'where the map is kept',
}
MAPPER = {
    'image_topic': 'colour images',
    'image_transport': 'raw or compressed',
    'camera_info_topic': 'intrinsics of those images',
    'depth_topic': 'depth registered to the colour images',
    'mask_topic': 'masks, 0 where the robot itself is',
    'pose_source': 'tf, pose or odometry',
    'pose_topic': 'PoseStamped or Odometry',
    'map_frame': 'fixed frame of the map',
    'camera_frame': 'optical frame of the camera, if not that of the image headers',
}
OTHERS = {
    'namespace': ('', 'of both nodes and all relative topics'),
    'use_sim_time': ('false', 'follow /clock'),
    'autostart': ('true', 'configure and activate the nodes without a lifecycle manager'),
    'respawn': ('true', 'start a node that has died again'),
    'rviz': ('false', 'start RViz as well'),
    'log_level': ('info', 'debug, info, warn, error or fatal'),
    'tf_topic': ('/tf', 'where transforms are published; tf for those of the namespace'),
    'tf_static_topic': ('/tf_static', 'where static transforms are published'),
}
# After Ctrl-C the mapper writes a last snapshot; launch would kill it after 5 and 10 seconds.
STOP_TIMEOUT_S = '40'
# A node that dies is started again and continues with the same map directory.
RESPAWN_DELAY_S = 2.0
# The exit code of a node with wrong settings, which another start would not cure.
EXIT_WRONG_SETTINGS = 2
# RViz's configuration names topics without a namespace.
RVIZ_TOPICS = ('lerf/map', 'lerf/relevancy', 'lerf/markers', 'lerf/grasps',
               'camera/color/image_raw')


def generate_launch_description():
    """Returns the arguments, and the nodes once the values are known."""
    share = Path(get_package_share_directory('lerf_ros'))
    arguments = [DeclareLaunchArgument(name, default_value='', description=text)
                 for name, text in {**BOTH, **MAPPER}.items()]
    arguments += [DeclareLaunchArgument(name, default_value=value, description=text)
                  for name, (value, text) in OTHERS.items()]
    arguments.append(DeclareLaunchArgument(
        'params_file', default_value=str(share / 'config' / 'lerf.yaml'),
        description='parameters of both nodes'))
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes, args=[share])])


def nodes(context, share):
    """Returns the nodes, with the values of the arguments."""
    def value(name):
        return LaunchConfiguration(name).perform(context)

    def given(names):
        return {name: value(name) for name in names if value(name)}

    shared = {**given(BOTH), 'use_sim_time': is_true(value('use_sim_time')),
              'autostart': is_true(value('autostart'))}
    started = [lerf_node(name, value, parameters) for name, parameters in (
        ('mapper_node', {**shared, **given(MAPPER)}), ('query_node', shared))]
    ends = [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=end_on_wrong_settings))
            for node in started]
    if is_true(value('rviz')) and not installed('rviz2'):
        ends.append(LogInfo(msg='[WARN] rviz:=true, but rviz2 is not installed here: everything '
                                'else starts without it (apt install ros-$ROS_DISTRO-rviz2)'))
    elif is_true(value('rviz')):
        started.append(rviz_node(share, value, given(('map_frame',)).get('map_frame', 'map'),
                                 given(('image_topic',))))
    return [*ends, *started]


def installed(package):
    """Returns whether a package is installed and has an executable of its own name."""
    try:
        return (Path(get_package_prefix(package)) / 'lib' / package / package).is_file()
    except PackageNotFoundError:
        return False


def end_on_wrong_settings(event, context):
    """Raises RuntimeError, which ends the launch, when the settings of a node are wrong."""
    if event.returncode == EXIT_WRONG_SETTINGS:
        raise RuntimeError(f'{event.process_name} cannot run with these settings: its last lines '
                           'say why')


def is_true(text):
    """Returns a launch argument as bool; raises RuntimeError unless it is true or false."""
    if text.lower() not in ('true', 'false'):
        raise RuntimeError(f'launch argument {text!r}: expected true or false')
    return text.lower() == 'true'


def lerf_node(name, value, parameters):
    """Returns one of the main nodes."""
    return Node(
        package='lerf_ros', executable=name, name=name, namespace=value('namespace'),
        output='screen', parameters=[value('params_file'), parameters],
        remappings=[('/tf', value('tf_topic')), ('/tf_static', value('tf_static_topic'))],
        ros_arguments=['--log-level', value('log_level')],
        sigterm_timeout=STOP_TIMEOUT_S, sigkill_timeout=STOP_TIMEOUT_S,
        respawn=is_true(value('respawn')), respawn_delay=RESPAWN_DELAY_S)


def rviz_file(share, value):
    """Returns RViz's configuration: for the map that is there already, else the shipped one.

    For a map that begins now, lerf/rviz_config writes one later. One that somebody has changed and
    saved in its place is used as it is.
    """
    path = configuration_path(value('namespace'))
    try:
        view, frame_id = map_view(map_directory(value('map_directory'), value('namespace')))
        write_configuration(path, view, frame_id)
    except ForeignFolderError:
        return path
    except (LerfError, OSError):
        return share / 'rviz' / 'lerf.rviz'
    return path


def rviz_node(share, value, map_frame, image):
    """Returns RViz with the topics of the namespace."""
    remappings = [(f'/{topic}', topic) for topic in RVIZ_TOPICS]
    if image:
        remappings[-1] = (f'/{RVIZ_TOPICS[-1]}', image['image_topic'])
    return Node(
        package='rviz2', executable='rviz2', namespace=value('namespace'), output='screen',
        arguments=['-d', str(rviz_file(share, value)), '-f', map_frame],
        parameters=[{'use_sim_time': is_true(value('use_sim_time'))}], remappings=remappings)
