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

# After Ctrl-C the mapper writes a last snapshot; launch would kill it after 5 and 10 seconds.
STOP_TIMEOUT_S = '40'


def nodes(context):
    """Returns the four nodes; when one of them ends, all do."""
    def value(name):
        return LaunchConfiguration(name).perform(context)

    out = Path(value('out')).expanduser().absolute()
    prepare_demo(out)
    shared = {'map_directory': str(out / 'map')}
    seed = {'seed': int(value('seed'))}
    own = {'sim_camera_node': seed, 'mapper_node': {}, 'query_node': {},
           'demo_client_node': {**seed, 'out': str(out), 'check': value('check') == 'true'}}
    started = [Node(package='lerf_ros', executable=name, output='screen',
                    arguments=['--ros-args', '--log-level', value('log_level')],
                    parameters=[value('params_file'), {**shared, **parameters}],
                    sigterm_timeout=STOP_TIMEOUT_S, sigkill_timeout=STOP_TIMEOUT_S)
               for name, parameters in own.items()]
    ends = [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=end))
            for node in started]
    return [*ends, *started]


def end(event, context):
    """Ends the launch when the first node ends; raises RuntimeError when it has failed."""
    if context.is_shutdown:
        return None
    if event.returncode != 0 or 'demo_client_node' not in event.process_name:
        raise RuntimeError(f'the demo has failed: {event.process_name} ended with code '
                           f'{event.returncode}; its last lines say why')
    return [EmitEvent(event=Shutdown(reason='the demo has ended'))]


def generate_launch_description():
    """Returns the arguments seed, out, params_file, check and log_level, and the nodes."""
    share = FindPackageShare('lerf_ros')
    return LaunchDescription([
        # Images that fit into the shared memory of Fast DDS arrive without delay.
        SetEnvironmentVariable('FASTDDS_DEFAULT_PROFILES_FILE', PathJoinSubstitution(
            [share, 'config', 'fastdds.xml'])),
        DeclareLaunchArgument('seed', default_value='0', description='another scene and path'),
        DeclareLaunchArgument('out', default_value='out/demo',
                              description='folder of map, pictures and results.json'),
        DeclareLaunchArgument('params_file', default_value=PathJoinSubstitution(
            [share, 'config', 'demo.yaml']),
            description='parameters of all four nodes'),
        DeclareLaunchArgument('check', default_value='true', choices=['true', 'false'],
                              description='fail when fewer than 7 of 8 are right or an absent one '
                              'is found'),
        DeclareLaunchArgument('log_level', default_value='info',
                              description='debug, info, warn, error or fatal'),
        OpaqueFunction(function=nodes)])
