Feature: Presence and signals in a negotiation
  Who takes part in an order sees who else is there and what they are doing, while they are. Strangers see nobody and
  nobody sees them.

  Background:
    Given a buyer ada
    And a node oslo
    And an admin root
    And an ORDER_CREATED of ada with oslo over laptops is published

  Scenario: who enters is seen by who is there, and by who comes later
    Given ada is in order:laptops
    When ada enters saying "reading the offer"
    And oslo comes into order:laptops
    Then oslo sees ada saying "reading the offer"
    When oslo enters saying "thinking"
    Then ada sees oslo saying "thinking"
    And the list of order:laptops for root is ada and oslo

  Scenario: who leaves is gone at once
    Given ada is in order:laptops
    And oslo is in order:laptops
    When ada enters saying "hello"
    Then oslo sees ada saying "hello"
    When ada leaves
    Then oslo sees ada no more

  Scenario: who hangs up and comes back soon has not been away
    Given ada is in order:laptops
    And oslo is in order:laptops
    When ada enters saying "hello"
    Then oslo sees ada saying "hello"
    When ada loses the connection and comes back
    And ada enters saying "again"
    Then oslo sees ada saying "again"
    And oslo was never told that ada left

  Scenario: typing is told to the others
    Given ada is in order:laptops
    And oslo is in order:laptops
    When ada is typing
    Then oslo learns that ada is typing

  Scenario: a stranger sees nobody and is seen by nobody
    Given a node rival
    And ada is in order:laptops
    And rival is in order:laptops
    When rival enters saying "peek"
    And rival is typing
    And ada enters saying "hello"
    Then ada sees only herself
    And rival sees nobody
    And the list of order:laptops for rival is nobody
