-- Takes away an index that was being made when its session ended: it is invalid, serves nobody, and
-- keeps its name from the one that row_number_index.sql makes. Writers go on.
DROP INDEX CONCURRENTLY IF EXISTS {index_of_table};
