"""The calls that ClearML has: a call on this list that this server has not is answered 501, any other 404."""

from __future__ import annotations

from typing import Final

_ACTIONS: Final = {
    "auth": (
        "create_credentials create_user edit_credentials edit_user fixed_users_mode get_credentials "
        "get_token_for_user login logout revoke_credentials validate_token "
    ),
    "debug": ("ping "),
    "events": (
        "add add_batch clear_scroll clear_task_log debug_images delete_for_model delete_for_task "
        "download_task_log get_debug_image_sample get_multi_task_metrics get_multi_task_plots get_plot_sample "
        "get_scalar_metric_data get_scalar_metrics_and_variants get_task_events get_task_latest_scalar_values "
        "get_task_log get_task_metrics get_task_plots get_task_single_value_metrics get_vector_metrics_and_variants "
        "multi_task_scalar_metrics_iter_histogram next_debug_image_sample next_plot_sample plots "
        "scalar_metrics_iter_histogram scalar_metrics_iter_raw vector_metrics_iter_histogram "
    ),
    "login": ("logout supported_modes "),
    "models": (
        "add_or_update_metadata archive_many create delete delete_many delete_metadata edit get_all get_by_id "
        "get_by_id_ex get_by_task_id get_frameworks make_private make_public move publish_many set_ready "
        "unarchive_many update update_for_task update_tags "
        "get_all_ex get_by_id_ex "
    ),
    "organization": (
        "download_for_get_all get_entities_count get_project_usages get_tags get_user_companies "
        "prepare_download_for_get_all "
    ),
    "pipelines": ("delete_runs start_pipeline "),
    "projects": (
        "create delete get_all get_by_id get_hyper_parameters get_hyperparam_values get_model_metadata_keys "
        "get_model_metadata_values get_model_tags get_project_tags get_task_parents get_task_tags "
        "get_unique_metric_variants get_user_names make_private make_public merge move update validate_delete "
        "get_all_ex "
    ),
    "queues": (
        "add_or_update_metadata add_task clear_queue create delete delete_metadata get_all get_by_id "
        "get_by_id_ex get_default get_next_task get_num_entries get_queue_metrics move_task_backward "
        "move_task_forward move_task_to_back move_task_to_front peek_task remove_task update "
        "get_all_ex "
    ),
    "reports": ("archive create delete get_all_ex get_tags get_task_data move publish share unarchive update "),
    "server": ("config endpoints get_stats info report_stats_option "),
    "serving": (
        "container_status_report get_endpoint_details get_endpoint_metrics_history get_endpoints "
        "get_loading_instances register_container unregister_container "
    ),
    "storage": ("get_settings reset_settings set_settings "),
    "tasks": (
        "add_or_update_artifacts add_or_update_model archive archive_many clone close completed create delete "
        "delete_artifacts delete_configuration delete_hyper_params delete_many delete_models dequeue "
        "dequeue_many edit edit_configuration edit_hyper_params edit_runtime enqueue enqueue_many failed get_all "
        "get_by_id get_by_id_ex get_configuration_names get_configurations get_hyper_params get_types make_private "
        "make_public move ping publish publish_many reset reset_many set_requirements share started stop "
        "stop_many stopped unarchive_many update update_batch update_tags validate "
        "get_all_ex get_by_id_ex "
    ),
    "users": ("create delete get_all get_all_ex get_by_id get_current_user get_preferences set_preferences update "),
    "workers": ("get_activity_report get_all get_count get_metric_keys get_stats register status_report unregister "),
}

KNOWN_CALLS: Final = frozenset(f"{service}.{action}" for service, names in _ACTIONS.items() for action in names.split())
"""From the Apache-2.0 SDK's API definitions and what was observed on clearml-server 2.3.0."""
