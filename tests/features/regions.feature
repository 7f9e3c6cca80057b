@regions
Feature: A client goes on in any region with the cursor that it has
  A region has its own NATS server, mirrors of the streams and a gateway. Sequences are the same everywhere, so a cursor
  is too; and a region shows nobody more than the hub does.

  Background:
    Given a buyer ada
    And a buyer bob
    And a node oslo

  Scenario Outline: from the hub to eu, to us and back to eu, over <transport>
    Given ada watches buyer:ada over <transport>
    And an ORDER_CREATED of ada with oslo is published
    And ada receives it
    When ada hangs up
    And 5 ORDER_CREATED of ada with oslo are published
    And ada comes back in eu over <transport> with the cursor
    Then ada receives exactly the last 5 published, each once
    When ada hangs up
    And 3 ORDER_CREATED of ada with oslo are published
    And ada comes back in us over <transport> with the cursor
    Then ada receives exactly the last 3 published, each once
    When ada hangs up
    And ada comes back in eu over <transport> with the cursor
    And an ORDER_CREATED of ada with oslo is published
    Then ada receives exactly the last 1 published, each once
    And no gap is told to ada

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario Outline: what is published at the hub is live in eu, over <transport>
    Given ada watches buyer:ada in eu over <transport>
    When an ORDER_CREATED of ada with oslo is published
    Then ada receives it

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario: a stranger sees nothing in a region that the hub would not show
    Given bob watches order:o in eu over WebSocket
    When an ORDER_CREATED of ada with oslo over o is published
    And an ORDER_CREATED of bob with oslo over o is published
    Then the next that bob receives is the last published
