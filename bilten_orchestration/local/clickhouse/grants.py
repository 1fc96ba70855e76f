"""What an analyst may touch, as plain lists: access.py judges by them, the engine's role repeats them."""

READABLE_DATABASES = frozenset({"staging", "marts", "analytics"})

#: Read by views of the databases above, never named by an analyst.
BEHIND_VIEWS = frozenset({"bilten_raw", "intermediate"})

#: Metadata a BI tool asks for; none of them shows a secret or another user's statement.
READABLE_SYSTEM_TABLES = frozenset(
    """one numbers tables columns databases functions data_type_families settings time_zones formats
    table_engines build_options aggregate_function_combinators keywords""".split()  # noqa: SIM905
)

INFORMATION_SCHEMAS = frozenset({"information_schema", "INFORMATION_SCHEMA"})

#: Rows of system.tables, columns and databases an analyst sees.
VISIBLE_DATABASES = READABLE_DATABASES | INFORMATION_SCHEMAS | {"system"}

#: Categories of system.functions that compute on their arguments alone.
SAFE_CATEGORIES = frozenset(
    {
        "Type Conversion", "Dates and Times", "Arrays", "String", "Geo", "Hash", "String Search", "JSON",
        "URL",
        "Mathematical", "Arithmetic", "Geo Polygon", "Map", "IP Address", "Comparison", "Tuple", "Distance",
        "Random Number", "Bitmap", "Encoding", "Bit", "UUID", "String Splitting", "String Replacement",
        "Null",
        "Rounding", "Time Window", "Conditional", "Logical", "Financial", "NumericIndexedVector",
    }
)  # fmt: skip

#: Of the category Other, which mixes arithmetic with file(), joinGet(), getMacro() and the like.
SAFE_FUNCTIONS = frozenset(
    """bar blockNumber blockSize byteSize caseWithExpression countDigits currentDatabase currentQueryID
    currentSchemas currentUser defaultValueOfArgumentType defaultValueOfTypeName digits displayName
    finalizeAggregation formatReadableDecimalSize formatReadableQuantity formatReadableSize
    formatReadableTimeDelta identity ignore indexHint initializeAggregation isConstant isDecimalOverflow
    lambda lowCardinalityIndices lowCardinalityKeys materialize minSampleSizeContinuous
    minSampleSizeConversion neighbor parseReadableSize parseReadableSizeOrNull parseReadableSizeOrZero
    parseTimeDelta queryID revision rowNumberInAllBlocks rowNumberInBlock runningAccumulate
    runningDifference runningDifferenceStartingWithFirstValue throwIf toColumnTypeName toTypeName transform
    variantElement variantType version visibleWidth grouping untuple exists getSubcolumn dynamicElement
    currentRoles uptime""".split()  # noqa: SIM905
)

#: Settings that bound or shape an analyst's own query and reach nothing else.
SAFE_SETTINGS = frozenset(
    """max_threads max_block_size max_execution_time timeout_overflow_mode max_result_rows max_result_bytes
    result_overflow_mode max_rows_to_read max_bytes_to_read read_overflow_mode max_rows_to_group_by
    group_by_overflow_mode max_rows_in_set max_rows_in_join max_bytes_in_join join_algorithm extremes
    join_use_nulls group_by_use_nulls aggregate_functions_null_for_empty
    empty_result_for_aggregation_by_empty_set
    session_timezone date_time_output_format date_time_input_format log_comment priority
    union_default_mode prefer_column_name_to_alias transform_null_in count_distinct_implementation
    use_query_cache query_cache_ttl query_cache_min_query_runs query_cache_min_query_duration
    send_progress_in_http_headers http_headers_progress_interval_ms enable_http_compression
    http_zlib_compression_level http_response_buffer_size http_write_exception_in_output_format
    cancel_http_readonly_queries_on_client_close add_http_cors_header http_receive_timeout http_send_timeout
    receive_timeout send_timeout connect_timeout http_connection_timeout readonly optimize_read_in_order
    low_cardinality_allow_in_native_format cast_keep_nullable any_join_distinct_right_table_keys
    allow_experimental_analyzer enable_analyzer show_table_uuid_in_table_create_query_if_not_nil
    output_format_native_encode_types_in_binary_format async_insert
    wait_for_async_insert""".split()  # noqa: SIM905
)
SAFE_SETTING_PREFIXES = (
    *(
        f"output_format_{family}_"
        for family in ("json", "csv", "tsv", "pretty", "arrow", "parquet", "decimal", "write")
    ),
    "format_csv_",
    "format_tsv_",
)
