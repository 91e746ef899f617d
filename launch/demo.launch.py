# SPDX-License-Identifier: Apache-2.0
"""The demo: simulated camera, mapper, query and client; `lerf_ros demo` without ros2 launch.

Unlike `lerf_ros demo`, this uses the ROS domain it is started in.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from lerf_ros.processes import prepare_demo


def nodes(context):
    """The four nodes; when one of them ends, all do."""
    def value(name):
        return LaunchConfiguration(name).perform(context)

    out = Path(value('out')).expanduser().absolute()
    prepare_demo(out)
    shared = {'map_directory': str(out / 'map')}
    seed = {'seed': int(value('seed'))}
    own = {'sim_camera_node': seed, 'mapper_node': {}, 'query_node': {},
           'demo_client_node': {**seed, 'out': str(out)}}
    started = [Node(package='lerf_ros', executable=name, output='screen',
                    arguments=['--ros-args', '--log-level', value('log_level')],
                    parameters=[value('params_file'), {**shared, **parameters}])
               for name, parameters in own.items()]
    ends = [RegisterEventHandler(OnProcessExit(
        target_action=node, on_exit=[EmitEvent(event=Shutdown(reason='the demo has ended'))]))
        for node in started]
    return [*started, *ends]


def generate_launch_description():
    """Arguments: seed, out, params_file, log_level."""
    share = FindPackageShare('lerf_ros')
    return LaunchDescription([
        # Images that fit into the shared memory of Fast DDS arrive at once.
        SetEnvironmentVariable('FASTDDS_DEFAULT_PROFILES_FILE', PathJoinSubstitution(
            [share, 'config', 'fastdds.xml'])),
        DeclareLaunchArgument('seed', default_value='0', description='another scene and path'),
        DeclareLaunchArgument('out', default_value='out/demo',
                              description='folder of map, pictures and results.json'),
        DeclareLaunchArgument('params_file', default_value=PathJoinSubstitution(
            [share, 'config', 'demo.yaml']),
            description='parameters of all four nodes'),
        DeclareLaunchArgument('log_level', default_value='info',
                              description='debug, info, warn, error or fatal'),
        OpaqueFunction(function=nodes)])
